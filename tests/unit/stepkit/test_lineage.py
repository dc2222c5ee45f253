"""stepkit.store.lineage: addresses of artifacts, and what a run has read."""

from __future__ import annotations

import pytest
from mlflow.entities import Run, RunData, RunInfo, RunTag

from stepkit.store.lineage import address_of, artifact_of, inputs_of, run_of


def a_run(**tags: str) -> Run:
    info = RunInfo("1f", "0", "someone", "FINISHED", 1, 2, "active")
    return Run(info, RunData(tags=[RunTag(key, value) for key, value in tags.items()]))


@pytest.mark.parametrize("artifact", ["raw_data.csv", "data/data_train.csv"])
def test_an_address_gives_back_the_run_and_the_artifact(artifact: str) -> None:
    address = address_of("1f", artifact)
    assert address == f"runs:/1f/{artifact}"
    assert (run_of(address), artifact_of(address)) == ("1f", artifact)


def test_inputs_are_the_input_tags_by_artifact() -> None:
    run = a_run(**{"input.data/data_train.csv": "runs:/2e/data/data_train.csv", "output.x": "sha256:0", "step": "s"})
    assert inputs_of(run) == {"data/data_train.csv": "runs:/2e/data/data_train.csv"}


def test_a_run_that_read_nothing_has_no_inputs() -> None:
    assert inputs_of(a_run(step="download_data")) == {}
