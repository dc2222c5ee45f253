"""hydra/launcher=ray on a real cluster: results arrive one by one, and errors are one line."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.config import ConfigError
from pipeline.sweep.launch_ray import SECONDS_TO_END
from pipeline.sweep.ray_connection import import_ray
from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from stepkit.store.tracking import DEFAULT_URI
from tests.cluster.cluster_app import CHILD
from tests.cluster.ray_cluster import HEAD, WORKER, RayCluster, ray_cluster
from tests.conftest import make_command_env, run_command
from tests.support.servers import wait_until

APP = [sys.executable, str(ROOT / "tests" / "cluster" / "cluster_app.py"), "hydra/launcher=ray"]
SERVER = "http://127.0.0.1:5000"
"""URL without a server; these jobs track nothing."""


@pytest.fixture(scope="module")
def ray() -> Iterator[RayCluster]:
    shared_memory = set(Path("/dev/shm").iterdir())
    with ray_cluster() as started:
        processes, folders = started.processes(), [node.folder for node in started.nodes]
        yield started
        processes += started.processes()
    assert [process for process in processes if process.is_running()] == []
    assert [folder for folder in folders if folder.exists()] == []
    assert [path for path in set(Path("/dev/shm").iterdir()) - shared_memory if "plasma" in path.name] == []
    for address in (started.address, started.client_address):
        with socket.socket() as probe:
            assert probe.connect_ex((HEAD, int(address.rpartition(":")[2]))) != 0


def start(*overrides: str, **env: str) -> list[Any]:
    return [[*APP, *overrides], {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": SERVER, **env}]


def sweep(folder: Path, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    words, variables = start(*overrides, **env)
    return run_command(*words, cwd=folder, **variables)


def read_last_line(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    line = next(line for line in reversed(ended.stdout.splitlines()) if line.startswith("{"))
    result: dict[str, Any]
    result, _ = json.JSONDecoder().raw_decode(line)  # Ray may print its own messages behind the line.
    return result


def test_jobs_run_on_every_node_with_the_code_that_ray_brought(ray: RayCluster, tmp_path: Path) -> None:
    seen_here = tmp_path / "here"
    seen_here.touch()
    overrides = [f"looks_for={seen_here}", "seconds=2", "+hydra.launcher.env.OWN=yes"]
    ended = sweep(tmp_path, f"hydra.launcher.address={ray.address}", "x=1,2,3,4", *overrides, **ray.env)
    jobs = read_last_line(ended)["results"]
    assert [(job["number"], job["x"]) for job in jobs] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert {job["node"] for job in jobs} == {HEAD, WORKER}
    assert {job["sees"] for job in jobs if job["node"] == WORKER} == {not ray.apart}
    assert {job["python"] for job in jobs} == {sys.executable}
    folders = {job["folder"] for job in jobs}
    assert len(folders) == 2
    assert {job["code"] for job in jobs} == {f"{folder}/pipeline/steps.py" for folder in folders}
    assert jobs[0]["env"].items() >= {"MLFLOW_TRACKING_URI": SERVER, "OWN": "yes"}.items()
    assert ended.stderr == ""


@pytest.mark.parametrize("by_client", [False, True], ids=["a node", "no node, through the client"])
def test_a_killed_worker_and_a_broken_job_lose_only_themselves(
    ray: RayCluster, tmp_path: Path, by_client: bool
) -> None:
    where = {"RAY_ADDRESS": ray.client_address if by_client else ray.address, **ray.env}
    came = read_last_line(sweep(tmp_path, "x=1,2,3,4", "killed=1", "broken=2", **where))
    assert [job["x"] for job in came["results"] if isinstance(job, dict)] == [1, 4]
    assert [math.isnan(job) for job in came["results"][1:3]] == [True, True]
    (killed, broken) = came["lost"]
    assert killed[0] == 1
    assert by_client or killed[1].startswith("WorkerCrashedError")
    assert broken == [2, "ValueError: job 2 is broken"]


def test_a_search_goes_on_after_a_killed_worker(ray: RayCluster, tmp_path: Path) -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "x=range(1,50)"]
    came = read_last_line(sweep(tmp_path, *search, "killed=1", f"hydra.launcher.address={ray.address}", **ray.env))
    assert [math.isnan(value) for value in came["results"]] == [False, True, False, False]
    assert [lost[0] for lost in came["lost"]] == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_jobs_wherever_they_run(ray: RayCluster, tmp_path: Path, number: signal.Signals) -> None:
    words, variables = start("x=1,2,3", "hangs=true", RAY_ADDRESS=ray.address, **ray.env)
    process = subprocess.Popen(words, cwd=tmp_path, env=make_command_env(**variables), stdout=subprocess.DEVNULL)
    wait_until(lambda: len(list_children()) == 2, "both nodes run a job")
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == 130
    assert time.monotonic() - began < SECONDS_TO_END, "the jobs did not end by themselves"
    wait_until(lambda: not list_children(), "the children of all jobs have ended", 10)


def list_children() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == CHILD]


def verify_rejected(ended: subprocess.CompletedProcess[str], words: str) -> None:
    assert ended.returncode == 2
    assert words in ended.stderr.splitlines()[-1]


def test_what_a_cluster_does_not_allow_is_refused(ray: RayCluster, tmp_path: Path) -> None:
    without_token = sweep(tmp_path, f"hydra.launcher.address={ray.address}", "x=1,2", HOME=str(tmp_path))
    verify_rejected(without_token, "requires its token. Set RAY_AUTH_MODE=token")
    too_large = sweep(tmp_path, "hydra.launcher.num_cpus=2", "x=1,2", RAY_ADDRESS=ray.address, **ray.env)
    verify_rejected(too_large, "no node of the Ray cluster has enough cores (found at most 1)")
    assert len(too_large.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "uri", ["", DEFAULT_URI, "file:///tmp/mlruns", "mlruns"], ids=["usable", "sqlite", "file", "path"]
)
def test_a_missing_cluster_or_a_store_that_it_cannot_see_is_told_soon_and_in_one_line(tmp_path: Path, uri: str) -> None:
    began, address = time.monotonic(), f"127.0.0.1:{find_free_port()}"
    tracked = [f"+main.mlflow_tracking_url='{uri}'"] if uri else []
    ended = sweep(tmp_path, f"hydra.launcher.address={address}", "x=1,2", *tracked)
    message = f"cannot reach {uri}. Start a tracking server" if uri else "no Ray cluster at 127.0.0.1:"
    verify_rejected(ended, message)
    assert len(ended.stderr.splitlines()) == 1
    assert time.monotonic() - began < 60


def test_a_missing_engine_is_told_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python itself marks a module that cannot be imported
    with pytest.raises(ConfigError, match="Install the cluster engines: make cluster"):
        import_ray("127.0.0.1:1")


def test_without_an_address_a_ray_of_this_machine_is_begun_and_ended(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:
        variables = {"HOME": str(tmp_path), "RAY_TMPDIR": short}
        ended = sweep(tmp_path, "x=1,2", f"looks_for={ROOT}", "broken=1", MLFLOW_TRACKING_URI="", **variables)
        came = read_last_line(ended)
        wait_until(lambda: not find_processes(short), "every process of Ray's has ended", 20)
    (job, _) = came["results"]
    assert (job["sees"], job["code"]) == (True, str(ROOT / "pipeline" / "steps.py"))
    assert came["lost"][0][0] == 1
    assert not (tmp_path / ".ray").exists()


def find_processes(word: str) -> list[psutil.Process]:
    own_pid = os.getpid()
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != own_pid and word in " ".join(process.info["cmdline"] or [])
    ]
