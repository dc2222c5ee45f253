"""Next commands of a decision, and the environment manager of reports and sweep jobs."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from drift.compare.sources import WatchedVersion
from drift.run import format_retraining_commands
from pipeline.config import parse_config, split_options
from pipeline.report.sections.lineage import _get_env_manager
from stepkit.paths import ROOT
from stepkit.store.model_address import RegisteredVersion
from stepkit.table.columns import read_columns
from tests.support.small_data import compose_config


def test_a_retrain_decision_names_commands_that_train_on_drifted_rows() -> None:
    columns = read_columns(ROOT / "data" / "sample.yaml")
    labelled, train = format_retraining_commands(WatchedVersion(RegisteredVersion("Bob (1)", "3", ""), columns, "", ""))
    assert shlex.split(labelled)[-2:] == ["-P", "model_name=Bob (1)"]
    words = split_options(["--hydra_options", shlex.split(train)[-1].removeprefix("hydra_options=")])
    config = parse_config(compose_config(*words))
    assert (config.data.file_url, config.data.sha256, config.data.reference_dataset) == (
        "outputs/labelled.parquet",
        [],
        "none",
    )
    assert config.register_.model_name == "Bob (1)"


@pytest.mark.parametrize(
    ("tags", "sweep_manager", "expected"), [({}, None, "local"), ({}, "uv", "uv"), ({"env": "conda"}, "uv", "conda")]
)
def test_the_environment_manager_is_found_or_local(
    tags: dict[str, str], sweep_manager: str | None, expected: str
) -> None:
    def make_run(env_manager: str | None) -> Any:
        run_tags = {"mlflow.project.env": env_manager} if env_manager else {}
        return SimpleNamespace(data=SimpleNamespace(tags=run_tags))

    facts: Any = SimpleNamespace(
        run=make_run(tags.get("env")), sweep=make_run(sweep_manager) if sweep_manager else None
    )
    assert _get_env_manager(facts) == expected
