"""The jobs of a sweep as tasks of a Ray cluster (hydra/launcher=ray): Ray takes the code along, results come singly.

hydra-ray-launcher cannot do this: it always gives object_store_memory, which ray.init refuses for a cluster that is
already running; it reads all results in one go, so that one killed worker loses those of all others; and it requires
boto3, and cloudpickle<3 where the locks have 3.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config import ConfigError
from pipeline.plugins import RayLauncher, RaySettings, ThreadsLauncher
from stepkit.addresses import holds_secret
from stepkit.places import ROOT
from stepkit.tracking import DEFAULT_URI

LOCAL = "local"
"""Ray's own word for a cluster of this machine's that lives as long as the process that begins it."""

CLIENT = "ray://"
ANSWER_SECONDS = 5.0
SECONDS_TO_END = 15.0
"""How long interrupted jobs may take to end their steps and mark their runs before their workers are killed."""

SECONDS_TO_HEED = 3.0
"""After how long an interrupt is sent again to jobs that still run."""

STAY_HERE = [
    "/.git", "/.venv", "/mlflow.db*", "/mlruns", "/mlartifacts", "/outputs", "/multirun", "/tests",
    "/.*_cache", "/.hypothesis", "__pycache__",
]  # fmt: skip
"""What of the repository no worker needs, in the manner of .gitignore (which Ray heeds too)."""

PASSED_ON = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY")
"""Variables that the workers get as they are here. No passwords: Ray shows them to everyone on the cluster."""


@dataclass(frozen=True)
class LostJob:
    """A job that gave no result: its worker was killed, or it raised; the text says which."""

    number: int
    overrides: tuple[str, ...]
    error: str


_lost: list[LostJob] = []


def lost_jobs() -> list[LostJob]:
    """Return the jobs of this process that gave no result.

    They came back with NaN as their value, and not as FAILED: Hydra's basic sweeper would raise at the first of
    those, and drop what all others found; a search takes NaN for a failed trial and goes on.
    """
    return list(_lost)


def launch(
    launcher: RayLauncher, settings: RaySettings, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run jobs on the cluster, each as a task; return what they found, in their order.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be used, or its workers cannot see the tracking store.
    """
    setup_globals()
    address = settings.address or os.environ.get("RAY_ADDRESS") or LOCAL
    ray = engine(address)
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    jobs = [composed(launcher, initial_job_idx + index, one) for index, one in enumerate(job_overrides)]
    if not ray.is_initialized():  # it is for later batches of the same sweep
        connect(ray, address, settings, jobs[0])
    tasks = [_submitted(ray, launcher, settings, job) for job in jobs]
    try:
        return [_gathered(ray, task, job) for task, job in zip(tasks, jobs, strict=True)]
    except BaseException:
        _cancel(ray, tasks)
        ray.shutdown()
        raise


def engine(address: str) -> Any:
    """Return the module ray. By name: a pipeline does without it, and so do the environments of its steps.

    Raises:
        ConfigError: it is not installed.
    """
    if address == LOCAL:
        # read as Ray is imported. Without it Ray writes a token to ~/.ray, and from then on every cluster that
        # this person starts asks its users for it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        # one attempt to connect instead of 20: that something listens there is known by then
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what is trained here is nobody's business
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")  # Ray warns of those that it chooses itself
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(f"hydra/launcher=ray: {error}; install the cluster engines: make cluster") from error


def composed(launcher: RayLauncher | ThreadsLauncher, number: int, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of one job; here, so that a mistake in it is told before anything is sent."""
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    return config


def connect(ray: Any, address: str, settings: RaySettings, job: DictConfig) -> None:
    """Join the cluster, or begin one of this machine's; it stays until this process ends.

    Raises:
        ConfigError: the cluster does not answer, refuses or is too small, or cannot see the tracking store.
    """
    more: dict[str, Any] = {"include_dashboard": False}
    if address != LOCAL:
        expect_shared_tracking(job, address)
        expect_answer(address)
        more = {}
    env = runtime_env(settings, address)
    try:
        with _own_signals():
            ray.init(address=address, runtime_env=env, logging_level=logging.WARNING, **more)
    except (ConnectionError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        raise ConfigError(_refusal(address, error)) from error
    expect_room(ray, settings.num_cpus)


def expect_room(ray: Any, num_cpus: float) -> None:
    """See that some node has the cores of one job; else Ray would wait for one, for ever and without a word.

    Raises:
        ConfigError: none has.
    """
    largest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if num_cpus > largest:
        raise ConfigError(
            f"hydra.launcher.num_cpus={num_cpus:g}: no node of the Ray cluster has that many cores "
            f"(the largest has {largest:g})"
        )


def expect_answer(address: str) -> None:
    """Look whether anything listens at host:port; Ray itself tries for half a minute, and logs all the while.

    Raises:
        ConfigError: nothing does.
    """
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host:  # "auto": Ray looks for a node on this machine
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}). Start one (ray start --head --port 6379), "
            "or name another: hydra.launcher.address or RAY_ADDRESS"
        ) from error


def expect_shared_tracking(job: DictConfig, address: str) -> None:
    """Refuse a tracking store that is a file of this machine.

    Raises:
        ConfigError: it is one.
    """
    told = OmegaConf.select(job, "hydra.job.env_set.MLFLOW_TRACKING_URI")
    configured = OmegaConf.select(job, "main.mlflow_tracking_url")
    uri = str(told or configured or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    if "://" not in uri or uri.startswith(("sqlite:", "file:")):
        raise ConfigError(
            f"the workers of the Ray cluster at {address} cannot see {uri}. Start a tracking server that they reach "
            "(mlflow server --host 0.0.0.0 --port 5000), and name it: main.mlflow_tracking_url=http://THIS_HOST:5000"
        )


def runtime_env(settings: RaySettings, address: str) -> dict[str, Any]:
    """What Ray prepares on each node: the code and the environment; on this machine alone the code is there.

    Raises:
        ConfigError: a password would be among it.
    """
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if holds_secret(variables.get("MLFLOW_TRACKING_URI", "")):
        raise ConfigError(
            "MLFLOW_TRACKING_URI holds a password, and Ray shows the variables of its workers to everyone. Leave it "
            "out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, of a database PGPASSWORD, on each node."
        )
    found: dict[str, Any] = {"env_vars": {**variables, **settings.env}}
    folder = settings.working_dir or (None if address == LOCAL else str(ROOT))
    return {**found, "working_dir": folder, "excludes": STAY_HERE} if folder else found


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which ray.init replaces by an exit without an ending."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refusal(address: str, error: BaseException) -> str:
    """Say in one line why the cluster cannot be used."""
    causes = [error]
    while causes[-1].__cause__:
        causes.append(causes[-1].__cause__)
    if "AuthToken" in "".join(map(str, causes)):
        return (
            f"the Ray cluster at {address} asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to what its nodes have"
        )
    hint = "" if address.startswith(CLIENT) else ". From a machine that is no node of it: ray://HOST:10001"
    return f"the Ray cluster at {address} cannot be used: {' '.join(str(error).split())[:500]}{hint}"


def _submitted(ray: Any, launcher: RayLauncher, settings: RaySettings, job: DictConfig) -> Any:
    number = job.hydra.job.num
    task = ray.remote(run_one).options(
        name=f"job {number}", num_cpus=settings.num_cpus, max_retries=settings.max_retries
    )
    return task.remote(job, launcher.hydra_context, launcher.task_function, Singleton.get_state())


def run_one(job: DictConfig, context: HydraContext, task_function: TaskFunction, state: Any) -> JobReturn:
    """On a worker: become a process of Hydra's, and run one job."""
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(job)
    done = run_job(
        hydra_context=context,
        config=job,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if done.status == JobStatus.FAILED:
        # an exception may not survive the way home; what it says does
        done.return_value = RuntimeError(_said(done._return_value))
    return done


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _gathered(ray: Any, task: Any, job: DictConfig) -> JobReturn:
    """Wait for one job; whatever became of it, the others' results are not touched."""
    try:
        done: JobReturn = ray.get(task)
    except ray.exceptions.RayTaskError as error:  # Hydra could not run it: its code or configuration cannot be read
        return _without_result(job, _said(error.cause or error))
    except ray.exceptions.RayError as error:  # its worker or node is gone
        return _without_result(job, _said(error).splitlines()[0])
    if done.status == JobStatus.FAILED:
        return _without_result(job, str(done._return_value))
    return done


def _without_result(job: DictConfig, error: str) -> JobReturn:
    overrides = tuple(map(str, job.hydra.overrides.task))
    _lost.append(LostJob(job.hydra.job.num, overrides, error))
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=math.nan)


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """Interrupt the jobs, as Ctrl-C would; kill the workers of those that do not end in time.

    A worker that is only about to begin its job loses the interrupt, so it is sent again; the first one that arrives
    makes a job deaf to further ones while it ends.
    """
    running, until = tasks, time.monotonic() + SECONDS_TO_END
    while running and time.monotonic() < until:
        for task in running:
            ray.cancel(task)
        _, running = ray.wait(running, num_returns=len(running), timeout=SECONDS_TO_HEED, fetch_local=False)
    for task in running:
        ray.cancel(task, force=True)
