"""Launcher that runs the jobs of a sweep as tasks of a Ray cluster (hydra/launcher=ray).

Ray sends the code to the workers. hydra-ray-launcher does not work here for three reasons. It always passes
object_store_memory, which ray.init rejects for a running cluster. It reads all results in one call, so that one killed
worker loses the results of all jobs. It requires boto3 and cloudpickle<3; our locks have cloudpickle 3.
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
"""Time that interrupted jobs have to stop their steps and mark their runs before their workers are killed."""

SECONDS_TO_HEED = 3.0
"""Time after which an interrupt is sent again to jobs that still run."""


class RayLauncher(ComposingLauncher):
    """Launcher that runs each job of a sweep as a Ray task.

    Attributes:
        lost: the reason why each job without a result has none (its worker was killed, or it raised an error), by
            number. Such a job returns NaN and not FAILED. Hydra's basic sweeper would raise at the first FAILED job
            and drop all other results; a search counts NaN as a failed trial.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.lost: dict[int, str] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run jobs on the cluster; return their results in order.

        Raises:
            ConfigError: Ray is not installed, or the cluster cannot be used or cannot reach the tracking store.
        """
        settings = parse_settings(RaySettings, self.settings, "hydra.launcher")
        address = settings.address or os.environ.get("RAY_ADDRESS") or LOCAL
        ray = import_ray(address)
        jobs = self.compose_jobs(job_overrides, initial_job_idx)
        if not ray.is_initialized():  # Later batches of a sweep use the same connection.
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
        """Wait for one job and return its result; its failure does not affect the other jobs."""
        try:
            result: JobReturn = ray.get(task)
        except ray.exceptions.RayTaskError as error:  # Hydra could not load the code or the configuration of the job.
            problem = _format_error(error.cause or error)
        except ray.exceptions.RayError as error:  # Its worker or node was lost.
            problem = _format_error(error).splitlines()[0]
        else:
            if result.status != JobStatus.FAILED:
                return result
            problem = str(result._return_value)
        self.lost[job.hydra.job.num] = problem
        overrides = list(map(str, job.hydra.overrides.task))
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=math.nan)


def run_remote_job(job: DictConfig, context: HydraContext, task_function: TaskFunction, state: Any) -> JobReturn:
    """Restore Hydra's state on a worker, and run one job."""
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(job)
    result = run_job(
        hydra_context=context,
        config=job,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if result.status == JobStatus.FAILED:
        # Not every exception can be pickled; its text can.
        result.return_value = RuntimeError(_format_error(result._return_value))
    return result


def _format_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """Interrupt the jobs as Ctrl-C would, and kill the workers of jobs that do not end in time.

    A worker that is about to start its job loses the interrupt, so it is sent again. A job ignores further interrupts
    after the first one.
    """
    running, until = tasks, time.monotonic() + SECONDS_TO_END
    while running and time.monotonic() < until:
        for task in running:
            ray.cancel(task)
        _, running = ray.wait(running, num_returns=len(running), timeout=SECONDS_TO_HEED, fetch_local=False)
    for task in running:
        ray.cancel(task, force=True)
