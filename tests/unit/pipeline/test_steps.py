"""pipeline.steps: the table of steps."""

from __future__ import annotations

import pytest

from pipeline.config import Config, ConfigError, checked
from pipeline.reuse.decide import why_off
from pipeline.steps import BY_NAME, STEPS, Step, chosen_steps
from tests.support.small_data import composed

ORDER = ["download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register"]


@pytest.fixture(scope="module")
def config() -> Config:
    return checked(composed())


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_the_steps_stand_in_the_order_in_which_they_run() -> None:
    assert names(list(STEPS)) == ORDER


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_reads_and_waits_only_for_earlier_ones(step: Step) -> None:
    earlier = ORDER[: ORDER.index(step.name)]
    assert set(step.reads.values()) | set(step.after) <= set(earlier)
    assert step.reads or step.name == "download"


def test_only_the_download_has_runs_of_another_name_than_its_folder() -> None:
    assert {step.name: step.run_name for step in STEPS if step.run_name != step.name} == {"download": "download_data"}


def test_all_means_every_step() -> None:
    assert names(chosen_steps(["all"])) == ORDER


def test_chosen_steps_run_in_the_order_of_the_table() -> None:
    assert names(chosen_steps(["segregate", "preprocess", "segregate"])) == ["preprocess", "segregate"]


@pytest.mark.parametrize("name", ["download", "download_data"])
def test_the_download_goes_by_both_of_its_names(name: str) -> None:
    assert names(chosen_steps([name])) == ["download"]


def test_an_unknown_step_is_named_with_the_one_that_may_be_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        chosen_steps(["preproces"])
    assert str(caught.value) == (
        f"main.execute_steps: unknown step 'preproces'; did you mean 'preprocess'? (steps: all, {', '.join(ORDER)})"
    )


def test_an_unknown_step_like_no_other_is_named_with_all_steps() -> None:
    with pytest.raises(ConfigError, match=r"unknown step 'zzz' \(steps: all, download, "):
        chosen_steps(["download", "zzz"])


def test_all_among_other_names_still_means_every_step() -> None:
    assert names(chosen_steps(["all", "evaluate"])) == ORDER


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_parameter_is_a_text_as_mlflow_wants_it(step: Step, config: Config) -> None:
    parameters = step.parameters(config, "runs:/1f")
    assert {type(value) for value in parameters.values()} == {str}


def test_a_step_asks_for_the_artifact_that_the_earlier_one_publishes(config: Config) -> None:
    given = {name: step.parameters(config, "runs:/1f") for name, step in BY_NAME.items()}
    assert given["preprocess"]["input_artifact"] == given["download"]["artifact_name"] == "raw_data.csv"
    assert given["segregate"]["input_artifact"] == given["preprocess"]["artifact_name"] == "preprocessed_data.csv"
    assert given["random_forest"]["train_data"] == "data/data_train.csv"
    assert given["evaluate"]["test_data"] == "data/data_test.csv"
    assert given["evaluate"]["model_export"] == given["random_forest"]["export_artifact"] == "model_export"


def test_evaluate_and_register_agree_on_the_verdicts_name() -> None:
    config = checked(composed("evaluate.verdict=other.json"))
    given = {name: BY_NAME[name].parameters(config, "") for name in ("evaluate", "register")}
    assert given["evaluate"].get("verdict") == given["register"]["verdict"] == "other.json"


def test_the_splits_take_the_format_of_the_preprocessed_table() -> None:
    config = checked(composed("preprocess.artifact_name=table.parquet", "segregate.artifact_root=parts"))
    assert BY_NAME["random_forest"].parameters(config, "")["train_data"] == "parts/data_train.parquet"
    assert BY_NAME["evaluate"].parameters(config, "")["test_data"] == "parts/data_test.parquet"


def test_a_split_without_stratification_is_passed_on_as_an_empty_text() -> None:
    config = checked(composed("data.stratify=null"))
    assert BY_NAME["segregate"].parameters(config, "")["stratify"] == ""


def test_a_pinned_reference_wins_over_the_name_behind_the_champion() -> None:
    config = checked(composed("data.reference_dataset=runs:/2e/preprocessed_data.csv"))
    assert BY_NAME["check_data"].parameters(config, "")["reference_artifact"] == "runs:/2e/preprocessed_data.csv"


@pytest.mark.parametrize("names", [["all"], ["download"], ["download_data"]])
def test_a_step_that_is_to_run_again_may_be_named_in_any_way(names: list[str]) -> None:
    main = checked(composed(f"main.rerun={names}")).main
    assert why_off(main, BY_NAME["download"]) == "main.rerun names it"
    assert why_off(main, BY_NAME["register"]) == ("main.rerun names it" if names == ["all"] else "")


def test_an_unknown_step_is_told_with_the_key_where_it_stands() -> None:
    with pytest.raises(ConfigError, match=r"main\.rerun: unknown step 'preproces'; did you mean 'preprocess'"):
        chosen_steps(["preproces"], "main.rerun")
