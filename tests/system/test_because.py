"""Why a pipeline was run stands on its run and on the version that it registers."""

from __future__ import annotations

from pathlib import Path

from stepkit.lineage import SUMMARY
from tests.conftest import Experiment
from tests.pipelines import run_here, small_forest, small_table


def test_the_reason_stands_on_the_run_and_on_the_version(experiment: Experiment, tmp_path: Path) -> None:
    table = small_table(tmp_path)
    asked = ["main.because.drift_run_id=1f", "main.because.reason='score_drift: 2 of 3 windows'"]
    here = run_here(
        experiment, f"data.file_url={table}", "data.reference_dataset=none", *asked, *small_forest()
    )  # fmt: skip
    version = experiment.client.get_model_version(experiment.id_name, "1")
    for tags in (here.runs.parent.data.tags, version.tags):
        assert tags["because.drift_run_id"] == "1f"
        assert tags["because.reason"] == "score_drift: 2 of 3 windows"
    assert "it was asked for none" in here.runs.steps["check_data"].data.tags[SUMMARY]
