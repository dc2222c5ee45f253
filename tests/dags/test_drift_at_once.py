"""Two live processes at one window: exactly one of them computes it, whichever overtakes the other."""

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
class Comparing:
    """A process that compares a window, and the run that it has opened."""

    process: subprocess.Popen[str]
    client: MlflowClient
    run_id: str = ""

    def tags(self) -> dict[str, str]:
        return dict(self.client.get_run(self.run_id).data.tags)

    def wait_for(self, tag: str) -> None:
        wait_until(lambda: tag in self.tags(), f"{tag} on the run", SECONDS)

    def hold(self) -> None:
        """Let it stop in the middle, alive, as on a machine that is out of breath."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def ended(self) -> Run:
        said, _ = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, said
        return self.client.get_run(self.run_id)


Begin = Callable[[str], Comparing]


@pytest.fixture(scope="module")
def model(store: str, tmp_path_factory: pytest.TempPathFactory) -> WatchedModel:
    folder = tmp_path_factory.mktemp("watched")
    return create_watched_model(create_experiment(EXPERIMENT, folder), folder)


@pytest.fixture(scope="module")
def server(store: str, model: WatchedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server before the store: a client that stands still in the middle of a request holds nobody else up."""
    with start_mlflow_server(store, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def begin(server: MlflowServer, model: WatchedModel) -> Iterator[Begin]:
    """Begin to compare a window in a process of its own; return once its run is open."""
    begun: list[Comparing] = []
    client = MlflowClient(tracking_uri=server.uri)

    def known() -> list[str]:
        return [run.info.run_id for run in client.search_runs([model.experiment.id], "tags.step = 'drift'")]

    def call(current: str) -> Comparing:
        before = set(known())
        given = {"reference": model.address, "log_url": model.log_url, "current": current}
        env = make_command_env(MLFLOW_TRACKING_URI=server.uri, MLFLOW_EXPERIMENT_NAME=EXPERIMENT, PYTHONPATH=str(ROOT))
        process = subprocess.Popen(
            [sys.executable, "-P", "run.py", *(word for name, value in given.items() for word in (f"--{name}", value))],
            cwd=ROOT / "drift", env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        one = Comparing(process, client)
        begun.append(one)
        wait_until(lambda: process.poll() is not None or bool(set(known()) - before), "a run of the process", SECONDS)
        (one.run_id,) = set(known()) - before
        return one

    yield call
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def computed(*runs: Run) -> list[str]:
    """The runs that are no repetition; the others point at one of them."""
    own = [run.info.run_id for run in runs if "same_as" not in run.data.tags]
    assert {run.data.tags["same_as"] for run in runs if "same_as" in run.data.tags} <= set(own)
    return own


def test_the_later_process_waits_for_the_earlier_and_takes_its_result(begin: Begin, model: WatchedModel) -> None:
    window = model.serve(0)
    first = begin(window)
    # held before it has drawn its number, it could be overtaken, and rightly be the one that waits
    first.wait_for(NUMBER)
    first.hold()
    second = begin(window)
    second.wait_for(KEY)
    first.go_on()
    assert computed(first.ended(), second.ended()) == [first.run_id]


def test_a_process_that_was_overtaken_waits_for_the_one_that_overtook_it(begin: Begin, model: WatchedModel) -> None:
    window = model.serve(1)
    slow = begin(window)
    slow.hold()
    assert KEY not in slow.tags()
    fast = begin(window)
    # held before that, it could draw a higher number than the slow one, and rightly be the one that waits
    fast.wait_for(NUMBER)
    fast.hold()
    slow.go_on()
    slow.wait_for(KEY)
    fast.go_on()
    assert computed(slow.ended(), fast.ended()) == [fast.run_id]
