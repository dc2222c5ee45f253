"""Ctrl-C during a pipeline: every child process ends, and the runs become KILLED or FAILED."""

from __future__ import annotations

import pytest

from tests.conftest import Experiment
from tests.support.ctrl_c import PATH, interrupt, make_command
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import list_pipelines
from tests.support.servers import wait_until


@pytest.mark.parametrize("way", ["python main.py", "mlflow run ."])
def test_ctrl_c_ends_every_process_and_marks_the_runs(
    way: str, experiment: Experiment, faulty_server: FaultyServer
) -> None:
    faulty_server.files["clients.csv"] = b"ID,LIMIT_BAL\n" * 1000
    status, errors, running = interrupt(make_command(way, experiment, faulty_server.url(PATH)), faulty_server)
    assert status not in (0, None)
    assert "interrupted" in errors
    assert running
    wait_until(lambda: not any(process.is_running() for process in running), "every child has ended")
    (pipeline,) = list_pipelines(experiment)
    assert pipeline.steps["download"].info.status in ("KILLED", "FAILED")
    assert pipeline.parent.info.status in ("KILLED", "FAILED")
    assert not experiment.current("download")
    assert set(pipeline.steps) == {"download"}
