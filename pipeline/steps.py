"""Table of steps: one row per step, in order, with its inputs and parameters."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Run

from pipeline import external_state
from pipeline.config import Config, ConfigError
from pipeline.external_state import StepContext
from pipeline.tags import DATA_CONFIG, EVALUATE_CONFIG, MODEL_CONFIG
from stepkit.table.columns import Columns

Parameters = dict[str, str]


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
    by_cost = config.random_forest_pipeline.threshold == "cost"
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
        "random_forest",
        reads={"input_run_id": "segregate"},
        after=("check_data",),
        packs=("prediction_log",),
        contents={"model_config": lambda config: config.random_forest_pipeline.model_dump()},
        parameters=lambda config, artifacts_uri: {
            "input_step": "segregate",
            "train_data": f"{config.segregate.artifact_root}/data_train.{_get_table_suffix(config)}",
            "model_config": f"{artifacts_uri}/{MODEL_CONFIG}",
            "export_artifact": config.random_forest_pipeline.export_artifact,
            "random_seed": str(config.main.random_seed),
            "val_size": f"{config.data.val_size}",
            "threshold_costs": _format_threshold_costs(config),
            "split": config.data.split,
            "stratify": config.data.stratify or "",
        },
    ),
    Step(
        "evaluate",
        reads={"input_model_run_id": "random_forest", "input_data_run_id": "segregate"},
        contents={"evaluate_config": lambda config: config.evaluate.model_dump(exclude={"on_reject"})},
        external_state=external_state.describe_champion,
        parameters=lambda config, artifacts_uri: {
            "input_model_step": "random_forest",
            "model_export": config.random_forest_pipeline.export_artifact,
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
        reads={"input_model_run_id": "random_forest", "input_verdict_run_id": "evaluate"},
        explain_undone=external_state.explain_unregistered,
        parameters=lambda config, _artifacts_uri: {
            "input_model_step": "random_forest",
            "model_export": config.random_forest_pipeline.export_artifact,
            "input_verdict_step": "evaluate",
            "verdict": config.evaluate.verdict,
            "model_name": config.register_.model_name,
            "replace_data_set": _format_replace_data_set(config),
        },
    ),
)

BY_NAME = {step.name: step for step in STEPS}


def select_steps(names: list[str], key: str = "main.execute_steps") -> list[Step]:
    """Return the named steps in the order of the table; "all" selects every step.

    Args:
        names: names of steps or of their runs.
        key: configuration key that holds the names.

    Raises:
        ConfigError: a name is not a step.
    """
    selected = {_get_step_name(name, key) for name in names} if "all" not in names else set(BY_NAME)
    return [step for step in STEPS if step.name in selected]


def _get_step_name(name: str, key: str) -> str:
    for step in STEPS:
        if name in (step.name, step.run_name):
            return step.name
    close = difflib.get_close_matches(name, list(BY_NAME), n=1)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    raise ConfigError(f"{key}: unknown step '{name}'{suggestion} (steps: all, {', '.join(BY_NAME)})")
