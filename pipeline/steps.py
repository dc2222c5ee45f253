"""Table of steps: one row per step, in order, with its inputs and parameters."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from mlflow.entities import Run

from pipeline import external_state
from pipeline.config import MODEL_STEPS, Config, ConfigError
from pipeline.external_state import StepContext
from pipeline.tags import DATA_CONFIG, EVALUATE_CONFIG, MODEL_CONFIG
from stepkit.table.columns import Columns

Parameters = dict[str, str]

MODEL = "model"
"""Name of the model step in the table. In a pipeline, the step has the name of the chosen kind (key `model`)."""


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    Attributes:
        name: its folder, its key in config.yaml and its name in main.execute_steps.
        parameters: returns its other parameters from the configuration and the URI of the pipeline run's artifacts.
        reads: the step whose run id each of these parameters receives.
        after: steps that must have succeeded before this one, although it does not read their artifacts.
        packs: folders of code that it copies into its artifacts.
        contents: returns the content behind each parameter that is the URI of an artifact of the pipeline run.
        external_state: returns the state, other than code, parameters and inputs, on which its result depends.
        explain_undone: returns why the effect of a finished run outside of MLflow's runs no longer exists, or "".
        tag: `step` tag and name of its runs; "" if they are the name of its folder.
    """

    name: str
    parameters: Callable[[Config, str], Parameters]
    reads: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    contents: dict[str, Callable[[Config], dict[str, Any]]] = field(default_factory=dict)
    external_state: Callable[[StepContext], dict[str, str]] = lambda _context: {}
    explain_undone: Callable[[StepContext, Run], str] = lambda _context, _run: ""
    tag: str = ""

    @property
    def run_name(self) -> str:
        """Name of the step's runs in MLflow, and their `step` tag."""
        return self.tag or self.name


def _get_table_suffix(config: Config) -> str:
    return config.preprocess.artifact_name.rsplit(".", 1)[-1]


def _format_threshold_costs(config: Config) -> str:
    """Return the costs if the threshold depends on them, else "": a change of the costs then needs no new training."""
    by_cost = config.model_settings.threshold == "cost"
    return ",".join(f"{cost:g}" for cost in config.evaluate.costs.model_dump().values()) if by_cost else ""


def _format_replace_data_set(config: Config) -> str:
    return str(config.register_.replace_data_set).lower()


STEPS = (
    Step(
        "download",
        tag="download_data",
        contents={"dataset": lambda config: config.data.model_dump(include=set(Columns.model_fields))},
        external_state=external_state.describe_source,
        parameters=lambda config, artifacts_uri: {
            "file_url": config.data.file_url,
            "sha256": ",".join(config.data.sha256),
            "dataset": f"{artifacts_uri}/{DATA_CONFIG}",
            "artifact_name": config.download.artifact_name,
            "artifact_description": config.download.artifact_description,
            "attempts": str(config.download.attempts),
            "stall_seconds": f"{config.download.stall_seconds:g}",
        },
    ),
    Step(
        "preprocess",
        reads={"input_run_id": "download"},
        parameters=lambda config, _artifacts_uri: {
            "input_step": "download_data",
            "input_artifact": config.download.artifact_name,
            "artifact_name": config.preprocess.artifact_name,
            "artifact_description": config.preprocess.artifact_description,
        },
    ),
    Step(
        "check_data",
        reads={"input_run_id": "preprocess"},
        external_state=external_state.describe_reference,
        parameters=lambda config, _artifacts_uri: {
            "input_step": "preprocess",
            "sample_artifact": config.preprocess.artifact_name,
            "reference_artifact": config.data.reference_dataset or config.check_data.reference_artifact,
            "ks_alpha": f"{config.data.ks_alpha}",
            "model_name": config.register_.model_name,
        },
    ),
    Step(
        "segregate",
        reads={"input_run_id": "preprocess"},
        parameters=lambda config, _artifacts_uri: {
            "input_step": "preprocess",
            "input_artifact": config.preprocess.artifact_name,
            "artifact_root": config.segregate.artifact_root,
            "test_size": f"{config.data.test_size}",
            "split": config.data.split,
            "stratify": config.data.stratify or "",
            "random_seed": str(config.main.random_seed),
        },
    ),
    Step(
        MODEL,
        reads={"input_run_id": "segregate"},
        after=("check_data",),
        packs=("prediction_log",),
        contents={"model_config": lambda config: config.model_settings.model_dump()},
        parameters=lambda config, artifacts_uri: {
            "input_step": "segregate",
            "train_data": f"{config.segregate.artifact_root}/data_train.{_get_table_suffix(config)}",
            "model_config": f"{artifacts_uri}/{MODEL_CONFIG.format(model=config.model)}",
            "export_artifact": config.model_settings.export_artifact,
            "random_seed": str(config.main.random_seed),
            "val_size": f"{config.data.val_size}",
            "threshold_costs": _format_threshold_costs(config),
            "cost_of_protected": str(config.evaluate.cost_of_protected).lower(),
            "split": config.data.split,
            "stratify": config.data.stratify or "",
        },
    ),
    Step(
        "evaluate",
        reads={"input_model_run_id": MODEL, "input_data_run_id": "segregate"},
        contents={"evaluate_config": lambda config: config.evaluate.model_dump(exclude={"on_reject"})},
        external_state=external_state.describe_champion,
        parameters=lambda config, artifacts_uri: {
            "input_model_step": config.model,
            "model_export": config.model_settings.export_artifact,
            "input_data_step": "segregate",
            "test_data": f"{config.segregate.artifact_root}/data_test.{_get_table_suffix(config)}",
            "verdict": config.evaluate.verdict,
            "model_name": config.register_.model_name,
            "replace_data_set": _format_replace_data_set(config),
            "evaluate_config": f"{artifacts_uri}/{EVALUATE_CONFIG}",
            "random_seed": str(config.main.random_seed),
        },
    ),
    Step(
        "register",
        reads={"input_model_run_id": MODEL, "input_verdict_run_id": "evaluate"},
        explain_undone=external_state.explain_unregistered,
        parameters=lambda config, _artifacts_uri: {
            "input_model_step": config.model,
            "model_export": config.model_settings.export_artifact,
            "input_verdict_step": "evaluate",
            "verdict": config.evaluate.verdict,
            "model_name": config.register_.model_name,
            "replace_data_set": _format_replace_data_set(config),
        },
    ),
)

STEP_FOLDERS = tuple(name for step in STEPS for name in (MODEL_STEPS if step.name == MODEL else (step.name,)))
"""Folders of all steps, in the order of the table; every kind of model is in the place of the model step."""


@cache
def list_steps(model: str) -> tuple[Step, ...]:
    """Return the steps of a pipeline that trains this kind of model, in order."""

    def rename(name: str) -> str:
        return model if name == MODEL else name

    return tuple(
        replace(
            step,
            name=rename(step.name),
            reads={flag: rename(name) for flag, name in step.reads.items()},
            after=tuple(map(rename, step.after)),
        )
        for step in STEPS
    )


def get_step(name: str, model: str) -> Step:
    """Return the step of this name in a pipeline that trains this kind of model."""
    return next(step for step in list_steps(model) if step.name == name)


def select_steps(names: list[str], model: str, key: str = "main.execute_steps") -> list[Step]:
    """Return the named steps in the order of the table; "all" selects every step.

    Args:
        names: names of steps or of their runs.
        model: kind of model that the pipeline trains.
        key: configuration key that holds the names.

    Raises:
        ConfigError: a name is not a step, or is the step of another kind of model.
    """
    steps = list_steps(model)
    selected = {_get_step_name(name, model, key) for name in names if name != "all"}
    return [step for step in steps if step.name in selected or "all" in names]


def _get_step_name(name: str, model: str, key: str) -> str:
    steps = list_steps(model)
    for step in steps:
        if name in (step.name, step.run_name):
            return step.name
    if name in MODEL_STEPS:
        raise ConfigError(
            f"{key}: step '{name}' trains another kind of model (model: {model}). Choose it: model={name}"
        )
    close = difflib.get_close_matches(name, STEP_FOLDERS, n=1)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    known = ", ".join(["all", *(step.name for step in steps)])
    raise ConfigError(f"{key}: unknown step '{name}'{suggestion} (steps: {known})")
