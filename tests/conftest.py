"""Fixtures that every ring shares: the repository, the real data, a real MLflow store, a way to run a step."""

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
    # imported where it is used: the process that only hands tests out to others loads this file too
    from mlflow import MlflowClient
    from mlflow.entities import Run

REAL_DATA = ROOT.parent / "shared" / "data" / "default_of_credit_card_clients.csv"
STEP_TAGS = {"download": "download_data"}


def pytest_sessionstart() -> None:
    """Collect no garbage while the tests are imported: what is imported stays, and to look through it takes long."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real table of clients (30,000 rows); it lies beside the repository, never in it."""
    if not REAL_DATA.is_file():
        pytest.skip(f"the real data set is not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for all temporary files: MLflow leaves one behind for each project that it runs.

    Its path is short, since those of sockets are limited, and others may pass it: PostgreSQL runs as another user.
    """
    # these two stay where they are: pytest's own, which is looked at after the tests, and multiprocessing's, which
    # removes it at the very end
    tmp_path_factory.getbasetemp()
    multiprocessing.util.get_temp_dir()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="t-") as folder:
        Path(folder).chmod(0o711)
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a real SQLite tracking store, one per worker; `mlflow` and every child process use it."""
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
    """A step that is interrupted in the test's own process ignores the signals that follow, for good."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_experiment_left_chosen() -> Iterator[None]:
    """mlflow.set_experiment leaves its choice in the environment, where `mlflow run` of a later test would find it."""
    yield
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@dataclass
class Experiment:
    """An experiment of a test's own, in the shared store, with its artifacts in the test's own folder."""

    name: str
    id: str
    client: MlflowClient

    @property
    def id_name(self) -> str:
        """A name for a registered model that no other test uses."""
        return f"model_{self.id}"

    def runs(self, step: str) -> list[Run]:
        """All runs of a step, newest first."""
        tag = STEP_TAGS.get(step, step)
        found = self.client.search_runs([self.id], f"tags.step = '{tag}'", order_by=["attributes.start_time DESC"])
        return list(found)

    def current(self, step: str) -> list[Run]:
        return [run for run in self.runs(step) if run.data.tags.get("current") == "true"]


def create_experiment(name: str, folder: Path) -> Experiment:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment_id = client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    return Experiment(name, experiment_id, client)


@pytest.fixture
def experiment(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Experiment:
    """A fresh experiment, made the active one, so that steps called in this process run in it."""
    import mlflow

    mlflow.set_tracking_uri(store)
    own = create_experiment(re.sub(r"\W+", "-", request.node.nodeid), tmp_path)
    mlflow.set_experiment(own.name)
    return own


@pytest.fixture
def faulty_server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@dataclass
class StepResult:
    """How a step ended: its exit status, what it said last (on standard error), and its log before that."""

    status: int
    message: str
    log: str = ""


def read_defaults(step: str) -> dict[str, str]:
    """The parameters that a step's MLproject gives a default, as `mlflow run ./STEP` would pass them."""
    project = yaml.safe_load((ROOT / step / "MLproject").read_text(encoding="utf-8"))
    parameters = project["entry_points"]["main"]["parameters"]
    return {name: kind["default"] for name, kind in parameters.items() if isinstance(kind, dict) and "default" in kind}


@pytest.fixture
def run_step(
    store: str, experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., StepResult]]:
    """Call a step's real `main` in this process: run_step("preprocess", input_artifact="raw_data.csv", ...).

    A flag that is not given has the default of the step's MLproject.
    """
    import mlflow

    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    # where a module shares its experiment, another may be the active one by now
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(experiment.name)

    def call(name: str, **flags: object) -> StepResult:
        module = importlib.import_module(f"{name}.run")
        given = {**read_defaults(name), **flags}
        capsys.readouterr()
        status = 0
        try:
            module.main([word for flag, value in given.items() for word in (f"--{flag}", str(value))])
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return StepResult(status, said.err.strip() if status else "", said.out)

    yield call
    # a step logs to the standard output of its process, which is this test's own and closes with it
    logging.getLogger().handlers.clear()


def run_command(*words: str, cwd: Path = ROOT, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment (python, mlflow ...) to its end, with its output captured as text.

    The time limit only keeps a hanging test from blocking the rest; it is no statement about speed.
    """
    return subprocess.run(words, cwd=cwd, env=make_command_env(**env), text=True, capture_output=True, timeout=timeout)


def make_command_env(**more: str) -> dict[str, str]:
    """The environment of a command as a person types it: this Python first on PATH, no run or experiment chosen."""
    # mlflow.set_experiment, which the fixture `experiment` calls, leaves its choice in the environment
    kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **more}
