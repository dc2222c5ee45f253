"""pipeline.config: config.yaml matches its schema, and each error in the configuration is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf

from pipeline.config import ConfigError, explain_error, parse_config, quote_override, split_options
from pipeline.reuse.fingerprint import flatten
from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.settings.evaluate import Evaluation, read_evaluation
from tests.support.small_data import compose_config


def get_error_text(*overrides: str) -> str:
    """Return the error text for invalid overrides, which must be one line."""
    with pytest.raises((ConfigError, HydraException)) as caught:
        parse_config(compose_config(*overrides))
    error = caught.value
    text = explain_error(error) if isinstance(error, HydraException) else str(error)
    assert "\n" not in text
    return text


def test_the_repositorys_configuration_is_valid_and_the_real_data_set_one_override_away() -> None:
    sample, real = parse_config(compose_config()), parse_config(compose_config("data=uci")).data
    assert (sample.data.name, sample.data.stratify, sample.data.target) == ("sample", "default", "default")
    assert sample.main.execute_steps == ["all"]
    assert sample.random_forest_pipeline.random_forest.max_depth == 13
    assert sample.register_.model_name == "credit_default"
    assert real.file_url.startswith("https://archive.ics.uci.edu/")
    assert (len(real.sha256), len(real.columns)) == (3, 23)
    assert sample.data.columns == real.columns


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
    config = OmegaConf.create(parse_config(compose_config(*overrides)).model_dump(by_alias=True))
    for override in overrides:
        key, value = override.split("=", 1)
        configured = str(OmegaConf.select(config, key))
        assert configured.replace("'", "").replace(" ", "") == ("None" if value == "null" else value), key


def test_one_step_and_one_digest_need_no_list() -> None:
    config = parse_config(compose_config("main.execute_steps=evaluate", "data.sha256=abc"))
    assert (config.main.execute_steps, config.data.sha256) == (["evaluate"], ["abc"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "main.experiment_nam=x",
            "main.experiment_nam: unknown configuration key; did you mean 'main.experiment_name'?",
        ),
        (
            "+main.experiment_nam=x",
            "main.experiment_nam: unknown configuration key; did you mean 'main.experiment_name'?",
        ),
        ("+regster.model_name=x", "regster: unknown configuration key; did you mean 'register'?"),
        ("serve.keepdays=9", "serve.keepdays: unknown configuration key; did you mean 'serve.keep_days'?"),
        ("+zzz=1", "zzz: unknown configuration key. See config.yaml for all keys."),
        ("zzz=1", "zzz: unknown configuration key. See config.yaml for all keys."),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_may_be_meant(override: str, message: str) -> None:
    assert get_error_text(override) == message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.split=time", ("data", "split: time needs time_column", "data.split=random")),
        ("data.split=newest", ("data.split", "'random' or 'time'", "found newest")),
        ("data.test_size=1.5", ("data.test_size", "less than 1", "found 1.5")),
        ("data.ks_alpha=1", ("data.ks_alpha", "less than 1")),
        ("segregate.artifact_root=a/b", ("segregate.artifact_root", "a/b")),
        ("evaluate.level=1", ("evaluate.level", "less than 1")),
        ("data.val_size=big", ("data.val_size", "valid number", "found big")),
        ("main.random_seed=seven", ("main.random_seed", "valid integer", "found seven")),
        ("main.random_seed=-1", ("main.random_seed", "found -1")),
        ("main.execute_steps=[]", ("main.execute_steps", "at least 1")),
        ("download.attempts=0", ("download.attempts", "found 0")),
        ("preprocess.artifact_name=table.xlsx", ("preprocess.artifact_name", "table.xlsx")),
        ('register.model_name="Bob\'s loans"', ("register.model_name", "cannot contain", "'")),
        ("register.model_name=''", ("register.model_name", "1 to 250 characters")),
        (f"register.model_name={'x' * 251}", ("register.model_name", "found 251 characters")),
        ("register.replace_data_set=maybe", ("register.replace_data_set", "valid boolean")),
        ("serve.port=70000", ("serve.port", "less than or equal to 65535", "found 70000")),
        ("serve.when_unavailable=wait", ("serve.when_unavailable", "'refuse' or 'answer'", "found wait")),
        ("data.file_url=null", ("data.file_url", "valid string")),
        ("evaluate.on_reject=stop", ("evaluate.on_reject", "'warn' or 'fail'", "found stop")),
        ("evaluate.resamples=10", ("evaluate.resamples", "greater than or equal to 100")),
        ("evaluate.gate.metric=auc", ("evaluate.gate.metric", "'roc_auc'", "found auc")),
        ("+evaluate.gate.floors.auc=0.7", ("evaluate.gate.floors.auc", "'roc_auc'")),
        ("evaluate.costs.false_positive=-1", ("evaluate.costs", "a wrong prediction must not cost less")),
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
    text = get_error_text(override)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data=ucy", ("ucy", "sample", "uci")),
        ("data.stratify=${data.targett}", ("data.targett",)),
        ("data.stratify=${nothing.there}", ("nothing.there",)),
        ("data.test_size", ("data.test_size",)),
        ("data.test_size=[0.3", ("[0.3",)),
    ],
    ids=["unknown data set", "interpolation", "interpolation of nothing", "no value", "open bracket"],
)
def test_what_hydra_cannot_compose_is_one_line_that_names_it(override: str, words: tuple[str, ...]) -> None:
    text = get_error_text(override)
    assert [word for word in words if word not in text] == [], text


def test_a_known_key_that_stands_in_no_file_yet_can_be_added_with_a_plus_sign() -> None:
    key = "random_forest_pipeline.random_forest.max_leaf_nodes"
    assert f"+{key}" in get_error_text(f"{key}=4")
    assert parse_config(compose_config(f"+{key}=4")).random_forest_pipeline.random_forest.max_leaf_nodes == 4


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
    assert quote_override(typed) == read


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["--hydra_options", "", "--data", "uci"], 'hydra_options="data=uci"'),
        (["--hydra_options", "a.b=1", "--data.file_url", "a (1).csv"], "\\'a\\ (1).csv\\'"),
        (["--data=uci"], 'hydra_options="data=uci"'),
    ],
)
def test_a_parameter_outside_hydra_options_is_one_line_with_the_right_form(argv: list[str], command: str) -> None:
    with pytest.raises(ConfigError, match=r"^data(\.file_url)?: unknown parameter") as raised:
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
    with pytest.raises(ConfigError, match=r"^hydra_options: .* Check the quotes: 'a=1"):
        split_options(["--hydra_options", "'a=1"])


def test_evaluate_in_config_yaml_names_every_key_with_its_default() -> None:
    """A missing key has the same default, and `evaluate` reads this file when it is run alone."""
    assert read_evaluation(ROOT / "config.yaml") == Evaluation() == parse_config(compose_config()).evaluate
    written = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["evaluate"]
    assert flatten(written, depth=2).keys() == flatten(Evaluation().model_dump(), depth=2).keys()


@pytest.mark.parametrize(
    ("text", "subject"),
    [("evaluate: {level: 2}", "level"), ("a: [", "not YAML"), ("lev: 1", "lev"), ("- 1", "dictionary")],
)
def test_settings_of_a_lone_evaluation_that_cannot_be_used_are_named(tmp_path: Path, text: str, subject: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(BadParameter, match=subject):
        read_evaluation(tmp_path / "own.yaml")
    with pytest.raises(BadParameter, match="no such file with settings of the evaluation"):
        read_evaluation(tmp_path / "none.yaml")
