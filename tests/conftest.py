"""Fixtures of all tests: the repository, the real data, a real MLflow store, and a way to run a step."""

from __future__ import annotations

import gc
import importlib
import logging
import multiprocessing.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from stepkit.paths import ROOT
from tests.support.faulty_http_server import FaultyServer

if TYPE_CHECKING:
    # Imported only where needed, because the process that distributes the tests to others loads this file too.
    from mlflow import MlflowClient
    from mlflow.entities import Run

REAL_DATA = ROOT.parent / "shared" / "data" / "default_of_credit_card_clients.csv"
STEP_TAGS = {"download": "download_data"}


def pytest_sessionstart() -> None:
    """Switch garbage collection off while the tests are imported: it takes long and frees nothing."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Path of the real table of clients (30,000 rows), which is next to the repository and never in it."""
    if not REAL_DATA.is_file():
        pytest.skip(f"the real data set is not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put all temporary files into one folder: MLflow leaves a folder behind for each project that it runs.

    Its path is short, because paths of sockets are limited. Other users may enter it, because PostgreSQL runs as one.
    """
    # These two must be created before: pytest's folder is inspected after the tests, and multiprocessing removes its
    # own folder when the process exits.
    tmp_path_factory.getbasetemp()
    multiprocessing.util.get_temp_dir()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="t-") as folder:
        Path(folder).chmod(0o711)
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a real SQLite tracking store, one per worker, for `mlflow` and every child process."""
    import mlflow

    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    yield uri
    os.environ.pop("MLFLOW_TRACKING_URI")
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture(autouse=True)
def no_signal_left_ignored() -> Iterator[None]:
    """Restore the signal handlers: a step that was interrupted in the test's process ignores all later signals."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_experiment_left_chosen() -> Iterator[None]:
    """Remove the experiment that mlflow.set_experiment put into the environment, where a later test would find it."""
    yield
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@dataclass
class Experiment:
    """Experiment of one test, in the shared store, with its artifacts in the folder of the test."""

    name: str
    id: str
    client: MlflowClient

    @property
    def id_name(self) -> str:
        """Name for a registered model that no other test uses."""
        return f"model_{self.id}"

    def runs(self, step: str) -> list[Run]:
        """Return all runs of a step, newest first."""
        tag = STEP_TAGS.get(step, step)
        runs = self.client.search_runs([self.id], f"tags.step = '{tag}'", order_by=["attributes.start_time DESC"])
        return list(runs)

    def current(self, step: str) -> list[Run]:
        return [run for run in self.runs(step) if run.data.tags.get("current") == "true"]


def create_experiment(name: str, folder: Path) -> Experiment:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment_id = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    return Experiment(name, experiment_id, client)


@pytest.fixture
def experiment(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Experiment:
    """New experiment, set as the active one, so that steps called in this process run in it."""
    import mlflow

    mlflow.set_tracking_uri(store)
    fresh = create_experiment(re.sub(r"\W+", "-", request.node.nodeid), tmp_path)
    mlflow.set_experiment(fresh.name)
    return fresh


@pytest.fixture
def faulty_server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@dataclass
class StepResult:
    """Result of a step: exit status, message on standard error, and the log on standard output."""

    status: int
    message: str
    log: str = ""


def read_defaults(step: str) -> dict[str, str]:
    """Return the default parameters in a step's MLproject, as `mlflow run ./STEP` would pass them."""
    project = yaml.safe_load((ROOT / step / "MLproject").read_text(encoding="utf-8"))
    parameters = project["entry_points"]["main"]["parameters"]
    return {name: kind["default"] for name, kind in parameters.items() if isinstance(kind, dict) and "default" in kind}


@pytest.fixture
def run_step(
    store: str, experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., StepResult]]:
    """Return a function that calls a step's real `main` in this process.

    Example: run_step("preprocess", input_artifact="raw_data.csv"). Other flags have the defaults of its MLproject.
    """
    import mlflow

    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    # If a module shares its experiment, another experiment may be the active one by now.
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(experiment.name)

    def call(name: str, **flags: object) -> StepResult:
        module = importlib.import_module(f"{name}.run")
        parameters = {**read_defaults(name), **flags}
        capsys.readouterr()
        status = 0
        try:
            module.main([word for flag, value in parameters.items() for word in (f"--{flag}", str(value))])
        except SystemExit as ended:
            status = int(ended.code or 0)
        output = capsys.readouterr()
        return StepResult(status, output.err.strip() if status else "", output.out)

    yield call
    # The step logged to the standard output of this test, which will be closed.
    logging.getLogger().handlers.clear()


def run_command(*words: str, cwd: Path = ROOT, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment (python, mlflow ...) to its end, with its output captured as text.

    The time limit only keeps a hanging test from blocking the others; it does not measure speed.
    """
    return subprocess.run(words, cwd=cwd, env=make_command_env(**env), text=True, capture_output=True, timeout=timeout)


def make_command_env(**more: str) -> dict[str, str]:
    """Return the environment of a command typed by a user: this Python first on PATH, no run or experiment set."""
    # The fixture `experiment` calls mlflow.set_experiment, which sets MLFLOW_EXPERIMENT_ID.
    left_out = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**inherited, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **more}
