"""Two live processes with the same window: exactly one compares it, whichever is faster."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from drift.history import KEY, NUMBER
from stepkit.paths import ROOT
from tests.conftest import create_experiment, make_command_env
from tests.support.monitored_champion import WatchedModel, create_watched_model
from tests.support.servers import MlflowServer, start_mlflow_server, wait_until

SECONDS = 300.0
EXPERIMENT = "at_once"


@dataclass
class Comparison:
    """A process that compares a window, and its run."""

    process: subprocess.Popen[str]
    client: MlflowClient
    run_id: str = ""

    def read_tags(self) -> dict[str, str]:
        return dict(self.client.get_run(self.run_id).data.tags)

    def wait_for(self, tag: str) -> None:
        wait_until(lambda: tag in self.read_tags(), f"{tag} on the run", SECONDS)

    def pause(self) -> None:
        """Stop the process temporarily, as on an overloaded machine."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait_for_run(self) -> Run:
        output, _ = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, output
        return self.client.get_run(self.run_id)


Start = Callable[[str], Comparison]


@pytest.fixture(scope="module")
def model(store: str, tmp_path_factory: pytest.TempPathFactory) -> WatchedModel:
    folder = tmp_path_factory.mktemp("watched")
    return create_watched_model(create_experiment(EXPERIMENT, folder), folder)


@pytest.fixture(scope="module")
def server(store: str, model: WatchedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server in front of the store, so that a paused client does not block the others."""
    with start_mlflow_server(store, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def start(server: MlflowServer, model: WatchedModel) -> Iterator[Start]:
    """Start a process that compares a window; return when its run is open."""
    comparisons: list[Comparison] = []
    client = MlflowClient(tracking_uri=server.uri)

    def list_run_ids() -> list[str]:
        return [run.info.run_id for run in client.search_runs([model.experiment.id], "tags.step = 'drift'")]

    def call(current: str) -> Comparison:
        before = set(list_run_ids())
        parameters = {"reference": model.address, "log_url": model.log_url, "current": current}
        env = make_command_env(MLFLOW_TRACKING_URI=server.uri, MLFLOW_EXPERIMENT_NAME=EXPERIMENT, PYTHONPATH=str(ROOT))
        flags = [word for name, value in parameters.items() for word in (f"--{name}", value)]
        process = subprocess.Popen(
            [sys.executable, "-P", "run.py", *flags],
            cwd=ROOT / "drift", env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        comparison = Comparison(process, client)
        comparisons.append(comparison)
        wait_until(
            lambda: process.poll() is not None or bool(set(list_run_ids()) - before), "a run of the process", SECONDS
        )
        (comparison.run_id,) = set(list_run_ids()) - before
        return comparison

    yield call
    for comparison in comparisons:
        if comparison.process.poll() is None:
            comparison.process.kill()
        comparison.process.wait()


def list_compared(*runs: Run) -> list[str]:
    """Return the runs that compared the window; verify that the other runs name one of them."""
    run_ids = [run.info.run_id for run in runs if "same_as" not in run.data.tags]
    assert {run.data.tags["same_as"] for run in runs if "same_as" in run.data.tags} <= set(run_ids)
    return run_ids


def test_the_later_process_waits_for_the_earlier_and_reuses_its_result(start: Start, model: WatchedModel) -> None:
    window = model.serve(0)
    first = start(window)
    # Paused before it has drawn its number, the first process could be overtaken and would have to wait.
    first.wait_for(NUMBER)
    first.pause()
    second = start(window)
    second.wait_for(KEY)
    first.resume()
    assert list_compared(first.wait_for_run(), second.wait_for_run()) == [first.run_id]


def test_an_overtaken_process_waits_for_the_faster_one(start: Start, model: WatchedModel) -> None:
    window = model.serve(1)
    slow = start(window)
    slow.pause()
    assert KEY not in slow.read_tags()
    fast = start(window)
    # Paused before it has drawn its number, it could draw the higher number and would have to wait.
    fast.wait_for(NUMBER)
    fast.pause()
    slow.resume()
    slow.wait_for(KEY)
    fast.resume()
    assert list_compared(slow.wait_for_run(), fast.wait_for_run()) == [fast.run_id]
