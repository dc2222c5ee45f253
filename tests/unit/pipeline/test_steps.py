"""pipeline.steps: the table of steps, and the steps that a configuration selects."""

from __future__ import annotations

import pytest

from pipeline.config import MODEL_STEPS, ConfigError, parse_config
from pipeline.reuse.decide import explain_reuse_off
from pipeline.steps import STEP_FOLDERS, Step, list_steps, select_steps
from tests.support.small_data import compose_config

ORDER = ["download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register"]
STEPS = list_steps("random_forest")
OTHERS = [model for model in MODEL_STEPS if model != "random_forest"]


def build_all_parameters(*overrides: str) -> dict[str, dict[str, str]]:
    """Return the parameters of each step."""
    config = parse_config(compose_config(*overrides))
    return {step.name: step.parameters(config, "runs:/1f") for step in list_steps(config.model)}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_reads_and_waits_only_for_earlier_ones(step: Step) -> None:
    assert [step.name for step in STEPS] == ORDER
    earlier = ORDER[: ORDER.index(step.name)]
    assert set(step.reads.values()) | set(step.after) <= set(earlier)
    assert step.reads or step.name == "download"
    assert step.run_name == ("download_data" if step.name == "download" else step.name)


@pytest.mark.parametrize("model", MODEL_STEPS)
def test_the_chosen_model_step_is_in_the_place_of_the_forest(model: str) -> None:
    expected = [model if name == "random_forest" else name for name in ORDER]
    assert [step.name for step in list_steps(model)] == expected
    readers = {
        step.name: step.reads["input_model_run_id"] for step in list_steps(model) if "input_model_run_id" in step.reads
    }
    assert readers == {"evaluate": model, "register": model}
    parameters = build_all_parameters(f"model={model}", f"{model}_pipeline.export_artifact=mine")
    assert parameters[model]["model_config"] == f"runs:/1f/config/{model}.yaml"
    assert parameters[model]["export_artifact"] == "mine"
    for reader in ("evaluate", "register"):
        assert (parameters[reader]["input_model_step"], parameters[reader]["model_export"]) == (model, "mine")


def test_every_step_has_a_folder_and_every_kind_of_model_settings() -> None:
    assert [name for name in STEP_FOLDERS if name not in MODEL_STEPS] == [
        name for name in ORDER if name != "random_forest"
    ]
    assert set(MODEL_STEPS) <= set(STEP_FOLDERS)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["all"], ORDER),
        (["all", "evaluate"], ORDER),
        (["segregate", "preprocess", "segregate"], ["preprocess", "segregate"]),
        (["download"], ["download"]),
        (["download_data"], ["download"]),
    ],
)
def test_chosen_steps_run_in_the_order_of_the_table_whatever_names_them(names: list[str], steps: list[str]) -> None:
    assert [step.name for step in select_steps(names, "random_forest")] == steps
    config = parse_config(compose_config(f"main.rerun={names}"))
    assert [step.name for step in STEPS if explain_reuse_off(config, step) == "main.rerun names it"] == steps


@pytest.mark.parametrize(
    ("name", "suggestion"), [("preproces", "; did you mean 'preprocess'?"), ("zzz", "")], ids=["close", "far"]
)
def test_an_unknown_step_is_reported_with_its_key_and_all_steps(name: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        select_steps(["download", name], "random_forest", "main.rerun")
    assert str(caught.value) == f"main.rerun: unknown step '{name}'{suggestion} (steps: all, {', '.join(ORDER)})"


@pytest.mark.parametrize("name", OTHERS)
def test_the_step_of_another_kind_of_model_is_reported_with_the_key_that_chooses_it(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        select_steps(["segregate", name], "random_forest")
    problem = f"step '{name}' trains another kind of model (model: random_forest)"
    assert str(caught.value) == f"main.execute_steps: {problem}. Choose it: model={name}"
    assert [step.name for step in select_steps([name], name)] == [name]


def test_a_step_asks_for_the_artifact_that_the_earlier_one_publishes() -> None:
    parameters_by_step = build_all_parameters("evaluate.verdict=other.json")
    assert {type(text) for step_parameters in parameters_by_step.values() for text in step_parameters.values()} == {
        str
    }, "as MLflow wants them"
    assert (
        parameters_by_step["preprocess"]["input_artifact"]
        == parameters_by_step["download"]["artifact_name"]
        == "raw_data.csv"
    )
    assert (
        parameters_by_step["segregate"]["input_artifact"]
        == parameters_by_step["preprocess"]["artifact_name"]
        == "preprocessed_data.csv"
    )
    assert parameters_by_step["random_forest"]["train_data"] == "data/data_train.csv"
    assert parameters_by_step["evaluate"]["test_data"] == "data/data_test.csv"
    assert (
        parameters_by_step["evaluate"]["model_export"]
        == parameters_by_step["random_forest"]["export_artifact"]
        == "model_export"
    )
    assert parameters_by_step["evaluate"]["verdict"] == parameters_by_step["register"]["verdict"] == "other.json"


def test_the_splits_take_the_format_of_the_preprocessed_table() -> None:
    parameters_by_step = build_all_parameters("preprocess.artifact_name=table.parquet", "segregate.artifact_root=parts")
    assert parameters_by_step["random_forest"]["train_data"] == "parts/data_train.parquet"
    assert parameters_by_step["evaluate"]["test_data"] == "parts/data_test.parquet"


def test_no_stratification_is_an_empty_text_and_a_pinned_reference_wins_over_the_artifacts_name() -> None:
    parameters_by_step = build_all_parameters(
        "data.stratify=null", "data.reference_dataset=runs:/2e/preprocessed_data.csv"
    )
    assert parameters_by_step["segregate"]["stratify"] == ""
    assert parameters_by_step["check_data"]["reference_artifact"] == "runs:/2e/preprocessed_data.csv"
