"""The jobs of a sweep as tasks of a Ray cluster (hydra/launcher=ray): Ray takes the code along, results come singly.

hydra-ray-launcher cannot do this: it always gives object_store_memory, which ray.init refuses for a cluster that is
already running; it reads all results in one go, so that one killed worker loses those of all others; and it requires
boto3, and cloudpickle<3 where the locks have 3.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.sweep.compose import composed
from pipeline.sweep.plugin_settings import RaySettings, ReadyLauncher
from pipeline.sweep.ray_connection import LOCAL, connect, engine

SECONDS_TO_END = 15.0
"""How long interrupted jobs may take to end their steps and mark their runs before their workers are killed."""

SECONDS_TO_HEED = 3.0
"""After how long an interrupt is sent again to jobs that still run."""


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
    launcher: ReadyLauncher, settings: RaySettings, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
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


def _submitted(ray: Any, launcher: ReadyLauncher, settings: RaySettings, job: DictConfig) -> Any:
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
