"""The table of steps: one row per step, in order, with what it reads and which parameters it gets."""

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
        reads: for each run-id parameter, the step whose run it names.
        parameters: its other parameters, from the configuration and the address of the pipeline run's artifacts.
        after: steps that must have succeeded before, although nothing of them is read.
        packs: folders of code that it puts into what it publishes.
        contents: for each parameter that is an address below the pipeline's own run, what stands there.
        outside: what its result depends on beside code, parameters and inputs.
        why_undone: why what a finished run of it did outside of MLflow's runs does not hold any more, or "".
        tag: the `step` tag and name of its runs, where that is not its folder's name.
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
        return self.tag or self.name


def _get_table_suffix(config: Config) -> str:
    return config.preprocess.artifact_name.rsplit(".", 1)[-1]


def _format_threshold_costs(config: Config) -> str:
    """The costs that the threshold depends on; none if it does not, so that other costs train no other model."""
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
        parameters=lambda config, here: {
            "file_url": config.data.file_url,
            "sha256": ",".join(config.data.sha256),
            "dataset": f"{here}/{DATA_CONFIG}",
            "artifact_name": config.download.artifact_name,
            "artifact_description": config.download.artifact_description,
            "attempts": str(config.download.attempts),
            "stall_seconds": f"{config.download.stall_seconds:g}",
        },
    ),
    Step(
        "preprocess",
        reads={"input_run_id": "download"},
        parameters=lambda config, _here: {
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
        parameters=lambda config, _here: {
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
        parameters=lambda config, _here: {
            "input_step": "preprocess",
            "input_artifact": config.preprocess.artifact_name,
            "artifact_root": config.segregate.artifact_root,
            "test_size": f"{config.data.test_size}",
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
        parameters=lambda config, here: {
            "input_step": "segregate",
            "train_data": f"{config.segregate.artifact_root}/data_train.{_get_table_suffix(config)}",
            "model_config": f"{here}/{MODEL_CONFIG}",
            "export_artifact": config.random_forest_pipeline.export_artifact,
            "random_seed": str(config.main.random_seed),
            "val_size": f"{config.data.val_size}",
            "threshold_costs": _format_threshold_costs(config),
            "stratify": config.data.stratify or "",
        },
    ),
    Step(
        "evaluate",
        reads={"input_model_run_id": "random_forest", "input_data_run_id": "segregate"},
        contents={"evaluate_config": lambda config: config.evaluate.model_dump(exclude={"on_reject"})},
        external_state=external_state.describe_champion,
        parameters=lambda config, here: {
            "input_model_step": "random_forest",
            "model_export": config.random_forest_pipeline.export_artifact,
            "input_data_step": "segregate",
            "test_data": f"{config.segregate.artifact_root}/data_test.{_get_table_suffix(config)}",
            "verdict": config.evaluate.verdict,
            "model_name": config.register_.model_name,
            "replace_data_set": _format_replace_data_set(config),
            "evaluate_config": f"{here}/{EVALUATE_CONFIG}",
            "random_seed": str(config.main.random_seed),
        },
    ),
    Step(
        "register",
        reads={"input_model_run_id": "random_forest", "input_verdict_run_id": "evaluate"},
        explain_undone=external_state.explain_unregistered,
        parameters=lambda config, _here: {
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
    """Return the named steps ("all": every one), in their order in the table, whatever the order of `names`.

    Args:
        key: where in the configuration the names stand.

    Raises:
        ConfigError: a name that is no step.
    """
    wanted = {_get_step_name(name, key) for name in names} if "all" not in names else set(BY_NAME)
    return [step for step in STEPS if step.name in wanted]


def _get_step_name(name: str, key: str) -> str:
    for step in STEPS:
        if name in (step.name, step.run_name):
            return step.name
    close = difflib.get_close_matches(name, list(BY_NAME), n=1)
    meant = f"; did you mean '{close[0]}'?" if close else ""
    raise ConfigError(f"{key}: unknown step '{name}'{meant} (steps: all, {', '.join(BY_NAME)})")
