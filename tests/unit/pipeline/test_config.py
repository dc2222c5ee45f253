"""pipeline.config: the real config.yaml fits its schema, and what does not is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException

from pipeline.config import ConfigError, checked, explain, readable, split_options, suggestion
from pipeline.reuse.fingerprint import flat
from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.settings.evaluate import Evaluation, read_evaluation
from tests.support.small_data import composed


def complaint(*overrides: str) -> str:
    """What a person reads after `overrides` that Hydra or the schema does not take; it must be one line."""
    with pytest.raises((ConfigError, HydraException)) as caught:
        checked(composed(*overrides))
    error = caught.value
    text = explain(error) if isinstance(error, HydraException) else str(error)
    assert "\n" not in text
    return text


def test_the_repositorys_configuration_is_valid() -> None:
    config = checked(composed())
    assert config.data.name == "sample"
    assert config.data.stratify == config.data.target == "default"
    assert config.main.execute_steps == ["all"]
    assert config.random_forest_pipeline.random_forest.max_depth == 13
    assert config.register_.model_name == "credit_default"


def test_the_real_data_set_is_one_override_away() -> None:
    config = checked(composed("data=uci"))
    assert config.data.file_url.startswith("https://archive.ics.uci.edu/")
    assert len(config.data.sha256) == 3
    assert len(config.data.columns) == 23


def test_the_sample_has_the_columns_of_the_real_data_set() -> None:
    assert checked(composed("data=sample")).data.columns == checked(composed("data=uci")).data.columns


PUBLIC = [
    "main.mlflow_tracking_url=http://127.0.0.1:5000",
    "main.experiment_name=dev_all_credit_card_default",
    "main.execute_steps=[preprocess,check_data]",
    "main.random_seed=7",
    "data.file_url=../shared/t.csv",
    "data.reference_dataset=runs:/1f/preprocessed_data.csv",
    "data.ks_alpha=0.01",
    "data.test_size=0.2",
    "data.val_size=0.2",
    "data.stratify=SEX",
    "random_forest_pipeline.random_forest.n_estimators=10",
    "random_forest_pipeline.random_forest.max_samples=0.5",
    "random_forest_pipeline.features.numeric=[AGE]",
    "random_forest_pipeline.export_artifact=model",
    "preprocess.artifact_name=preprocessed_data.parquet",
    "serve.keep_days=30",
    "serve.redact=[AGE]",
]


@pytest.mark.parametrize("overrides", [PUBLIC, ["data.stratify=null"]], ids=["values", "null"])
def test_the_public_keys_can_be_set(overrides: list[str]) -> None:
    whole = checked(composed(*overrides)).model_dump(by_alias=True)
    for override in overrides:
        key, value = override.split("=", 1)
        found = whole
        for part in key.split("."):
            found = found[part]
        assert str(found).replace("'", "").replace(" ", "") == ("None" if value == "null" else value), key


def test_one_step_and_one_digest_need_no_list() -> None:
    config = checked(composed("main.execute_steps=evaluate", "data.sha256=abc"))
    assert config.main.execute_steps == ["evaluate"]
    assert config.data.sha256 == ["abc"]


@pytest.mark.parametrize(
    ("override", "key", "meant"),
    [
        ("main.experiment_nam=x", "main.experiment_nam", "main.experiment_name"),
        ("+main.experiment_nam=x", "main.experiment_nam", "main.experiment_name"),
        ("data.test_sise=0.3", "data.test_sise", "data.test_size"),
        (
            "random_forest_pipeline.random_forest.n_estimator=5",
            "random_forest_pipeline.random_forest.n_estimator",
            "random_forest_pipeline.random_forest.n_estimators",
        ),
        ("+regster.model_name=x", "regster", "register"),
        ("serve.keepdays=9", "serve.keepdays", "serve.keep_days"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_may_be_meant(override: str, key: str, meant: str) -> None:
    assert complaint(override) == f"unknown configuration key '{key}'; did you mean '{meant}'?"


@pytest.mark.parametrize("override", ["+zzz=1", "zzz=1"])
def test_an_unknown_key_like_no_other_points_to_the_file(override: str) -> None:
    assert complaint(override) == "unknown configuration key 'zzz'. The known keys stand in config.yaml."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.test_size=1.5", ("data.test_size", "less than 1", "found: 1.5")),
        ("data.test_size=0", ("data.test_size", "greater than 0", "found: 0")),
        ("data.val_size=big", ("data.val_size", "valid number", "found: big")),
        ("data.ks_alpha=1", ("data.ks_alpha", "less than 1")),
        ("main.random_seed=seven", ("main.random_seed", "valid integer", "found: seven")),
        ("main.random_seed=-1", ("main.random_seed", "found: -1")),
        ("main.execute_steps=[]", ("main.execute_steps", "at least 1")),
        ("download.attempts=0", ("download.attempts", "found: 0")),
        ("preprocess.artifact_name=table.xlsx", ("preprocess.artifact_name", "table.xlsx")),
        ("segregate.artifact_root=a/b", ("segregate.artifact_root", "a/b")),
        ("register.model_name=a/b", ("register.model_name", "a/b")),
        ('register.model_name="Bob\'s loans"', ("register.model_name", "cannot contain", "'")),
        ("register.model_name=''", ("register.model_name", "1 to 250 characters")),
        (f"register.model_name={'x' * 251}", ("register.model_name", "found 251 characters")),
        ("register.replace_data_set=maybe", ("register.replace_data_set", "valid boolean")),
        ("serve.port=70000", ("serve.port", "less than or equal to 65535", "found: 70000")),
        ("serve.when_unavailable=wait", ("serve.when_unavailable", "'refuse' or 'answer'", "found: wait")),
        ("data.file_url=null", ("data.file_url", "valid string")),
        ("evaluate.on_reject=stop", ("evaluate.on_reject", "'warn' or 'fail'", "found: stop")),
        ("evaluate.level=1", ("evaluate.level", "less than 1")),
        ("evaluate.resamples=10", ("evaluate.resamples", "greater than or equal to 100")),
        ("evaluate.gate.metric=auc", ("evaluate.gate.metric", "'roc_auc'", "found: auc")),
        ("+evaluate.gate.floors.auc=0.7", ("evaluate.gate.floors.auc", "'roc_auc'")),
        ("evaluate.costs.false_positive=-1", ("evaluate.costs", "a mistake must not cost less")),
        ("random_forest_pipeline.threshold=f2", ("random_forest_pipeline.threshold", "'f1' or 'cost'")),
        (
            "random_forest_pipeline.random_forest.max_depth=deep",
            ("random_forest_pipeline.random_forest.max_depth", "deep"),
        ),
        ("random_forest_pipeline.threshold=2", ("random_forest_pipeline.threshold", "less than 1")),
        ("+data.columns.AGE.type=number", ("data.columns.AGE.type", "'integer', 'float' or 'text'", "number")),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(override: str, words: tuple[str, ...]) -> None:
    text = complaint(override)
    assert [word for word in words if word not in text] == [], text


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    text = complaint("data=ucy")
    assert "ucy" in text
    assert "sample" in text
    assert "uci" in text


@pytest.mark.parametrize("override", ["data.stratify=${data.targett}", "data.stratify=${nothing.there}"])
def test_an_interpolation_that_leads_nowhere_is_named(override: str) -> None:
    key = override.split("{")[1].rstrip("}")
    assert key in complaint(override)


@pytest.mark.parametrize(("override", "named"), [("data.test_size", "data.test_size"), ("data.test_size=[0.3", "[0.3")])
def test_an_override_that_hydra_cannot_parse_is_one_line(override: str, named: str) -> None:
    assert named in complaint(override)


def test_a_known_key_that_stands_in_no_file_yet_is_not_called_unknown() -> None:
    text = complaint("random_forest_pipeline.random_forest.max_leaf_nodes=4")
    assert "+random_forest_pipeline.random_forest.max_leaf_nodes" in text


def test_a_known_key_that_stands_in_no_file_yet_can_be_added() -> None:
    config = checked(composed("+random_forest_pipeline.random_forest.max_leaf_nodes=4"))
    assert config.random_forest_pipeline.random_forest.max_leaf_nodes == 4


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("data.file_url=/x/clients (1).csv", "data.file_url='/x/clients (1).csv'"),
        ("data.file_url=größe.csv", "data.file_url='größe.csv'"),
        ("data.file_url=~/none.csv", "data.file_url='~/none.csv'"),
        ("data=inf", "data='inf'"),
        ("data=2019", "data='2019'"),
        ("main.random_seed=7", "main.random_seed=7"),
        ("a=range(1,5)", "a=range(1,5)"),
        ("a=x,y", "a=x,y"),
    ],
)
def test_a_value_that_hydra_cannot_read_is_a_text(typed: str, read: str) -> None:
    assert readable(typed) == read


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["--hydra_options", "", "--data", "uci"], 'hydra_options="data=uci"'),
        (["--hydra_options", "a.b=1", "--data.file_url", "a (1).csv"], "\\'a\\ (1).csv\\'"),
        (["--data=uci"], 'hydra_options="data=uci"'),
    ],
)
def test_a_parameter_outside_hydra_options_is_one_line_with_the_right_form(argv: list[str], command: str) -> None:
    with pytest.raises(ConfigError, match="unknown parameter 'data") as raised:
        split_options(argv)
    assert command in str(raised.value)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--hydra_options", "data=uci main.random_seed=7"], ["data=uci", "main.random_seed=7"]),
        (["--hydra_options", ""], []),
        (["--hydra_options"], []),
        (["--hydra_options", "-m a.b=1,2 'c=x y'"], ["-m", "a.b=1,2", "c=x y"]),
        (["--hydra_options", "a=range(7,17,5)"], ["a=range(7,17,5)"]),
        (["data=uci", "-m"], ["-m", "data=uci"]),
        (["--hydra_options", "a=1 b=2 --multirun ~c"], ["--multirun", "~c", "a=1", "b=2"]),
        ([], []),
    ],
)
def test_hydra_options_are_split_as_a_shell_would_with_flags_first(argv: list[str], words: list[str]) -> None:
    assert split_options(argv) == words


def test_options_with_an_open_quote_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hydra_options cannot be split into words: .* Check its quotes: 'a=1"):
        split_options(["--hydra_options", "'a=1"])


def test_a_suggestion_is_made_only_for_a_close_key() -> None:
    assert suggestion("main.sed", ["main.seed", "data.name"]) == "; did you mean 'main.seed'?"
    assert "did you mean" not in suggestion("zzz", ["main.seed"])


def test_evaluate_in_config_yaml_names_every_key_with_its_default() -> None:
    """A key that is left out means the same; and a lone step reads this very file."""
    assert read_evaluation(ROOT / "config.yaml") == Evaluation() == checked(composed()).evaluate
    written = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["evaluate"]
    assert flat(written, depth=2).keys() == flat(Evaluation().model_dump(), depth=2).keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [("evaluate: {level: 2}", "level"), ("a: [", "is not YAML"), ("lev: 1", "lev"), ("- 1", "dictionary")],
)
def test_settings_of_a_lone_evaluation_that_cannot_be_used_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(BadParameter, match=said):
        read_evaluation(tmp_path / "own.yaml")
    with pytest.raises(BadParameter, match="no settings of the evaluation"):
        read_evaluation(tmp_path / "none.yaml")
