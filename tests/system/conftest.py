"""Fixtures for faults: a step that must fail, checked against every promise about failures."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from pipeline import cli
from simulate.clients import simulate_clients
from tests.conftest import STEP_TAGS, Experiment, StepResult
from tests.support.pipelines import make_pipeline_command
from tests.support.prediction_logs import create_database
from tests.support.servers import start_postgres

ROWS = 300


@pytest.fixture(scope="session")
def few_clients() -> pd.DataFrame:
    """A few hundred synthetic clients in the form of the source: ID, 23 columns, `default payment next month`."""
    return simulate_clients(ROWS, seed=8)  # a seed without duplicate rows


@pytest.fixture(scope="session")
def log_server() -> Iterator[str]:
    """URI of a PostgreSQL server for prediction logs, one per worker; each log gets its own database."""
    with start_postgres() as uri:
        yield uri


@pytest.fixture(params=["sqlite", "postgresql"])
def log_at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new prediction log: an SQLite file, then a database on a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return create_database(request.getfixturevalue("log_server"))


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def main_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., StepResult]]:
    """Return a function that runs `python main.py` in this process, with an experiment and options."""
    tracked = mlflow.get_tracking_uri()
    heeding = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(experiment: Experiment, *options: str) -> StepResult:
        monkeypatch.setattr(sys, "argv", make_pipeline_command(experiment, *options)[1:])
        capsys.readouterr()
        status = cli.main()
        output = capsys.readouterr()
        return StepResult(status, output.err, output.out)

    yield call
    mlflow.set_tracking_uri(tracked)
    for number, handler in heeding.items():
        signal.signal(number, handler)
    logging.getLogger().handlers.clear()  # Hydra's handlers write to the standard output of this test


def read_artifacts(experiment: Experiment) -> dict[str, bytes]:
    """Return the content of every file in the experiment's artifact folder, by its relative path."""
    location = Path(unquote(urlsplit(experiment.client.get_experiment(experiment.id).artifact_location).path))
    return {str(path.relative_to(location)): path.read_bytes() for path in location.rglob("*") if path.is_file()}


def read_marks(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """Return status and `current` tag of every run of the experiment, by run id."""
    runs = experiment.client.search_runs([experiment.id])
    return {run.info.run_id: (run.info.status, run.data.tags.get("current", "")) for run in runs}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """New folder for temporary files, in which a test can find leftovers."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def refuse(experiment: Experiment, run_step: Callable[..., StepResult], scratch: Path) -> Callable[..., Run]:
    """Return a function that runs a step that must fail, and verifies that it fails cleanly.

    Example: refuse("download", "DownloadFailed", "404"). The message must contain the words. `publishes` names the
    artifacts that the failed run may have. Without `first`, an older run must be current and remain current.
    """

    def call(
        step: str, error: str, *words: str, publishes: tuple[str, ...] = (), first: bool = False, **flags: object
    ) -> Run:
        tag = str(flags.get("step", STEP_TAGS.get(step, step)))
        assert first or len(experiment.current(tag)) == 1, f"the test needs an older current run of {tag}"
        runs, files, temporary = read_marks(experiment), read_artifacts(experiment), set(scratch.iterdir())

        ended = run_step(step, **flags)

        assert ended.status == 1
        (run_id,) = read_marks(experiment).keys() - runs.keys()
        run = experiment.client.get_run(run_id)
        assert run.info.status == "FAILED"
        assert ended.message == run.data.tags["error"]
        assert ended.message.startswith(f"{error}: ")
        assert [word for word in words if word not in ended.message] == [], ended.message
        assert "Traceback" not in ended.log + ended.message
        assert "current" not in run.data.tags
        assert {key: value for key, value in read_marks(experiment).items() if key != run_id} == runs
        prefix = f"{run_id}/artifacts/"
        assert read_artifacts(experiment) == files | {
            name: body for name, body in read_artifacts(experiment).items() if name.startswith(prefix)
        }
        new_files = read_artifacts(experiment).keys() - files.keys()
        assert {name.removeprefix(prefix) for name in new_files} == set(publishes)
        assert set(scratch.iterdir()) == temporary
        return run

    return call
