"""A requested pipeline whose model the gate rejects: the recorded reasons, and evaluate.on_reject."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from stepkit.errors import ModelRejected
from stepkit.store.lineage import SUMMARY
from tests.conftest import Experiment, create_experiment
from tests.support.pipelines import PipelineResult, make_small_forest, run_here, write_small_table

FLOOR = "evaluate.gate.floors.roc_auc=0.99"
ASKED = ["main.because.drift_run_id=1f", "main.because.reason='score_drift: 2 of 3 windows'"]


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("on reject", tmp_path_factory.mktemp("reject"))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    table: Path = write_small_table(tmp_path_factory.mktemp("table"))
    return [f"data.file_url={table}", "data.reference_dataset=none", *make_small_forest(), FLOOR, *ASKED]


@pytest.fixture(scope="module")
def warned(place: Experiment, options: list[str]) -> PipelineResult:
    return run_here(place, *options)


def test_a_rejected_model_is_said_to_be_one_and_the_pipeline_ends_well(
    place: Experiment, warned: PipelineResult
) -> None:
    assert warned.error is None
    assert warned.runs.parent.info.status == "FINISHED"
    assert "required: at least 0.99" in warned.said
    assert f'make promote MODEL={place.id_name} VERSION=1 REASON="..."' in warned.said
    aliases = place.client.get_registered_model(place.id_name).aliases
    assert {name: str(version) for name, version in aliases.items()} == {"challenger": "1"}


def test_told_to_fail_the_same_pipeline_fails_with_the_reason(
    place: Experiment, options: list[str], warned: PipelineResult
) -> None:
    failed = run_here(place, *options, "evaluate.on_reject=fail")
    assert isinstance(failed.error, ModelRejected)
    assert "rejected: ROC AUC" in str(failed.error)
    assert failed.states["random_forest"] == failed.states["evaluate"] == "reused", "the model has not changed"


def test_why_it_was_run_stands_on_the_run_and_on_the_version(place: Experiment, warned: PipelineResult) -> None:
    version = place.client.get_model_version(place.id_name, "1")
    for tags in (warned.runs.parent.data.tags, version.tags):
        assert tags["because.drift_run_id"] == "1f"
        assert tags["because.reason"] == "score_drift: 2 of 3 windows"


def test_no_reference_was_asked_for_and_none_is_taken(warned: PipelineResult) -> None:
    assert "data.reference_dataset is none" in warned.runs.steps["check_data"].data.tags[SUMMARY]
