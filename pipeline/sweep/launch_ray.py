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
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.sweep.plugin_bases import ComposingLauncher
from pipeline.sweep.plugin_settings import RaySettings, parse_settings
from pipeline.sweep.ray_connection import LOCAL, connect, import_ray

SECONDS_TO_END = 15.0
"""How long interrupted jobs may take to end their steps and mark their runs before their workers are killed."""

SECONDS_TO_HEED = 3.0
"""After how long an interrupt is sent again to jobs that still run."""


class RayLauncher(ComposingLauncher):
    """Run each job of a sweep as a Ray task.

    Attributes:
        lost: why a job gave no result (its worker was killed, or it raised), by the job's number. Such a job returns
            NaN and not FAILED: Hydra's basic sweeper would raise at the first FAILED one and drop all other results,
            and a search takes NaN for a failed trial.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.lost: dict[int, str] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run jobs on the cluster; return their results in order.

        Raises:
            ConfigError: Ray is not installed, the cluster cannot be used, or its workers cannot see the tracking store.
        """
        settings = parse_settings(RaySettings, self.settings, "hydra.launcher")
        address = settings.address or os.environ.get("RAY_ADDRESS") or LOCAL
        ray = import_ray(address)
        jobs = self.compose_jobs(job_overrides, initial_job_idx)
        if not ray.is_initialized():  # it is for later batches of the same sweep
            connect(ray, address, settings, jobs[0])
        tasks = [self._submit(ray, settings, job) for job in jobs]
        try:
            return [self._gather(ray, task, job) for task, job in zip(tasks, jobs, strict=True)]
        except BaseException:
            _cancel(ray, tasks)
            ray.shutdown()
            raise

    def _submit(self, ray: Any, settings: RaySettings, job: DictConfig) -> Any:
        task = ray.remote(run_remote_job).options(
            name=f"job {job.hydra.job.num}", num_cpus=settings.num_cpus, max_retries=settings.max_retries
        )
        return task.remote(job, self.hydra_context, self.task_function, Singleton.get_state())

    def _gather(self, ray: Any, task: Any, job: DictConfig) -> JobReturn:
        """Wait for one job; whatever became of it, the others' results are not touched."""
        try:
            done: JobReturn = ray.get(task)
        except ray.exceptions.RayTaskError as error:  # Hydra could not run it: its code or configuration is unreadable
            problem = _format_error(error.cause or error)
        except ray.exceptions.RayError as error:  # its worker or node is gone
            problem = _format_error(error).splitlines()[0]
        else:
            if done.status != JobStatus.FAILED:
                return done
            problem = str(done._return_value)
        self.lost[job.hydra.job.num] = problem
        overrides = list(map(str, job.hydra.overrides.task))
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=math.nan)


def run_remote_job(job: DictConfig, context: HydraContext, task_function: TaskFunction, state: Any) -> JobReturn:
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
        done.return_value = RuntimeError(_format_error(done._return_value))
    return done


def _format_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


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
