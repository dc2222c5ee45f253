"""What a pipeline says of a model that the gate rejects, and when that is a failure."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from stepkit.errors import ModelRejected
from tests.conftest import Experiment, new_experiment
from tests.pipelines import Here, run_here, small_forest, small_table

FLOOR = "evaluate.gate.floors.roc_auc=0.99"


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return new_experiment("on reject", tmp_path_factory.mktemp("reject"))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    table: Path = small_table(tmp_path_factory.mktemp("table"))
    return [f"data.file_url={table}", *small_forest(), FLOOR]


@pytest.fixture(scope="module")
def warned(place: Experiment, options: list[str]) -> Here:
    return run_here(place, *options)


def test_a_rejected_model_is_said_to_be_one_and_the_pipeline_ends_well(place: Experiment, warned: Here) -> None:
    assert warned.error is None
    assert warned.runs.parent.info.status == "FINISHED"
    assert "below 0.99" in warned.said
    assert f'make promote MODEL={place.id_name} VERSION=1 REASON="..."' in warned.said
    aliases = place.client.get_registered_model(place.id_name).aliases
    assert {name: str(version) for name, version in aliases.items()} == {"challenger": "1"}


def test_told_to_fail_the_same_pipeline_fails_with_the_reason(
    place: Experiment, options: list[str], warned: Here
) -> None:
    failed = run_here(place, *options, "evaluate.on_reject=fail")
    assert isinstance(failed.error, ModelRejected)
    assert "rejected: AUC" in str(failed.error)
    assert failed.states["random_forest"] == failed.states["evaluate"] == "reused", "the model itself is the same"
