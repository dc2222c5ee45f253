"""MLproject, run.py, config.yaml and the promised commands use the same parameters and values."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from typing import Any

import pytest
from mlflow.projects.utils import load_project

from pipeline.config import MODEL_STEPS, Config, parse_config
from pipeline.steps import STEP_FOLDERS, Step, list_steps
from stepkit.paths import ROOT
from tests.support.repo import PROJECT_FOLDERS, read_project
from tests.support.small_data import compose_config

COMMAND = ["PYTHONPATH=..", "python", "-P", "run.py"]

MODEL_FLAGS = (
    "step",
    "input_step",
    "train_data",
    "model_config",
    "export_artifact",
    "random_seed",
    "val_size",
    "stratify",
)

PROMISED = {
    "download": ("step", "file_url", "artifact_name", "artifact_description"),
    "preprocess": ("step", "input_step", "input_artifact", "artifact_name", "artifact_description"),
    "check_data": ("step", "input_step", "reference_artifact", "sample_artifact", "ks_alpha"),
    "segregate": ("step", "input_step", "input_artifact", "artifact_root", "test_size", "stratify"),
    **dict.fromkeys(MODEL_STEPS, MODEL_FLAGS),
    "evaluate": ("step", "input_model_step", "model_export", "input_data_step", "test_data"),
}
"""The parameters of the single-step commands that DESIGN section 3 fixes."""

PROMISED_VALUES: dict[str, dict[str, Any]] = {
    "download": {"step": "download_data", "artifact_name": "raw_data.csv"},
    "preprocess": {
        "step": "preprocess",
        "input_step": "download_data",
        "input_artifact": "raw_data.csv",
        "artifact_name": "preprocessed_data.csv",
    },
    "check_data": {
        "step": "check_data",
        "input_step": "preprocess",
        "reference_artifact": "preprocessed_data.csv",
        "sample_artifact": "preprocessed_data.csv",
        "ks_alpha": 0.05,
    },
    "segregate": {
        "step": "segregate",
        "input_step": "preprocess",
        "input_artifact": "preprocessed_data.csv",
        "artifact_root": "data",
        "test_size": 0.3,
        "stratify": "default",
    },
    **{
        model: {
            "step": model,
            "input_step": "segregate",
            "train_data": "data/data_train.csv",
            "model_config": importlib.import_module(f"{model}.run").KIND.config,
            "export_artifact": "model_export",
            "random_seed": 42,
            "val_size": 0.3,
            "stratify": "default",
        }
        for model in MODEL_STEPS
    },
    "evaluate": {
        "step": "evaluate",
        "input_model_step": "random_forest",
        "model_export": "model_export",
        "input_data_step": "segregate",
        "test_data": "data/data_test.csv",
    },
}
"""The values of those commands: a parameter that is left out means the same."""

NOT_THE_DEFAULT = {"sha256", "dataset", "model_config", "evaluate_config"}
"""What a pipeline passes otherwise than a lone step: digests and addresses of its own resolved configuration."""


PIPELINES = [
    pytest.param(model, step, id=step.name)
    for number, model in enumerate(MODEL_STEPS)
    for step in list_steps(model)
    if number == 0 or step.name == model
]
"""Every step with the kind of model of its pipeline; steps of all pipelines only once."""


@pytest.fixture
def config(model: str) -> Config:
    return parse_config(compose_config(f"model={model}"))


def read_flags(folder: str) -> dict[str, argparse.Action]:
    parser: argparse.ArgumentParser = importlib.import_module(f"{folder}.run").make_parser()
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def is_same(left: Any, right: Any) -> bool:
    """Return whether two values of a configuration mean the same, as 0.3, "0.3" and "0.30" do."""
    try:
        return float(left) == float(right)
    except (TypeError, ValueError):
        return str(left) == str(right)


@pytest.mark.parametrize("folder", PROJECT_FOLDERS)
def test_mlflow_accepts_the_project_under_the_name_of_its_folder(folder: str) -> None:
    loaded = load_project(str(ROOT / folder))
    assert loaded.name == folder
    assert loaded.env_config_path == str(ROOT / folder / "conda.yml")


def test_the_root_project_needs_no_parameter() -> None:
    root = read_project(".")
    assert root.defaults == {"hydra_options": ""}
    assert shlex.split(root.command) == ["python", "main.py", "--hydra_options", "{hydra_options}"]


@pytest.mark.parametrize("folder", STEP_FOLDERS)
def test_a_step_takes_the_flags_that_its_mlproject_names(folder: str) -> None:
    assert set(read_flags(folder)) == set(read_project(folder).parameters)


@pytest.mark.parametrize("folder", PROJECT_FOLDERS)
def test_the_command_hands_every_parameter_on_under_its_name(folder: str) -> None:
    words = shlex.split(read_project(folder).command)
    handed = words[words.index("run.py") + 1 :]
    assert dict(zip(handed[::2], handed[1::2], strict=True)) == {
        f"--{name}": f"{{{name}}}" for name in read_project(folder).parameters
    }


@pytest.mark.parametrize("folder", PROJECT_FOLDERS)
def test_the_command_finds_stepkit_above_and_nothing_in_the_working_directory(folder: str) -> None:
    assert shlex.split(read_project(folder).command)[: len(COMMAND)] == COMMAND


@pytest.mark.parametrize(("model", "step"), PIPELINES)
def test_the_pipeline_passes_only_parameters_that_the_step_has(step: Step, config: Config) -> None:
    passed = {"step", *step.parameters(config, "runs:/1f"), *step.reads}
    assert passed <= set(read_project(step.name).parameters)


@pytest.mark.parametrize(("model", "step"), PIPELINES)
def test_the_pipeline_passes_the_exact_run_of_everything_that_is_read(model: str, step: Step) -> None:
    run_ids = {name for name in read_project(step.name).parameters if name.endswith("run_id")}
    assert set(step.reads) == run_ids


@pytest.mark.parametrize(("model", "step"), PIPELINES)
def test_the_pipeline_leaves_no_parameter_to_its_default(step: Step, config: Config) -> None:
    passed = {"step", *step.parameters(config, "runs:/1f"), *step.reads}
    assert set(read_project(step.name).parameters) - passed == set()


@pytest.mark.parametrize("folder", PROMISED)
def test_the_promised_command_can_be_typed(folder: str) -> None:
    assert set(PROMISED[folder]) <= set(read_project(folder).parameters)


@pytest.mark.parametrize("folder", PROMISED)
def test_the_promised_command_needs_no_other_parameter(folder: str) -> None:
    required = set(read_project(folder).parameters) - set(read_project(folder).defaults)
    assert required <= set(PROMISED[folder])


@pytest.mark.parametrize("folder", PROMISED_VALUES)
def test_a_parameter_left_out_means_what_the_promised_command_says(folder: str) -> None:
    defaults = read_project(folder).defaults
    assert {name: defaults[name] for name in PROMISED_VALUES[folder]} == PROMISED_VALUES[folder]


@pytest.mark.parametrize(("model", "step"), PIPELINES)
def test_a_lone_step_and_the_pipeline_have_the_same_defaults(step: Step, config: Config) -> None:
    defaults = read_project(step.name).defaults
    passed = {"step": step.run_name, **step.parameters(config, "runs:/1f")}
    differing = {
        name: (defaults[name], value)
        for name, value in passed.items()
        if name in defaults and name not in NOT_THE_DEFAULT and not is_same(defaults[name], value)
    }
    assert differing == {}


@pytest.mark.parametrize("folder", STEP_FOLDERS)
def test_a_flag_and_its_parameter_have_the_same_default(folder: str) -> None:
    defaults = read_project(folder).defaults
    # Descriptions are for people, so the flag has no default description.
    flags = {name: flag for name, flag in read_flags(folder).items() if name != "artifact_description"}
    differing = {
        name: (defaults.get(name), flag.default)
        for name, flag in flags.items()
        if not flag.required and flag.default != "" and not is_same(defaults.get(name), flag.default)
    }
    assert differing == {}


@pytest.mark.parametrize("folder", STEP_FOLDERS)
def test_a_parameter_without_a_default_is_a_required_flag(folder: str) -> None:
    without = set(read_project(folder).parameters) - set(read_project(folder).defaults)
    assert [name for name in without if not read_flags(folder)[name].required] == []


@pytest.mark.parametrize("folder", PROJECT_FOLDERS)
def test_no_default_is_null_which_mlflow_takes_for_missing(folder: str) -> None:
    assert [name for name, value in read_project(folder).defaults.items() if value is None] == []


@pytest.mark.parametrize("folder", STEP_FOLDERS)
def test_a_step_says_what_it_turns_into_what(folder: str) -> None:
    doc = importlib.import_module(f"{folder}.run").__doc__ or ""
    assert re.match(rf"{folder}: .+ -> .+", doc), doc


def test_the_names_of_a_step_are_one() -> None:
    assert [name for name in STEP_FOLDERS if not (ROOT / name / "run.py").is_file()] == []
    for model in MODEL_STEPS:
        assert [step for step in list_steps(model) if read_project(step.name).defaults["step"] != step.run_name] == []
