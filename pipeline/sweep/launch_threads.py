"""The jobs of a sweep side by side in this process (hydra/launcher=threads).

A job's own process would load every library again. Here the job's steps start from the process that has them loaded,
and its thread only waits for them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, open_dict

from pipeline.sweep.job import run_job
from pipeline.sweep.plugin_bases import ComposingLauncher
from pipeline.sweep.plugin_settings import ThreadsSettings, parse_settings
from stepkit.processes import interrupted


class ThreadsLauncher(ComposingLauncher):
    """Run jobs in threads of this process, whose forkserver starts their steps."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run jobs, at most `n_jobs` at a time; return their results in order.

        Raises:
            KeyboardInterrupt: passed on after every job has ended its steps.
        """
        n_jobs = parse_settings(ThreadsSettings, self.settings, "hydra.launcher").n_jobs
        jobs = self.compose_jobs(job_overrides, initial_job_idx)
        at_a_time = n_jobs if n_jobs > 0 else os.cpu_count()  # -1: all cores, as with joblib
        with ThreadPoolExecutor(at_a_time, thread_name_prefix="job") as pool:
            tasks = [pool.submit(_run_composed_job, job) for job in jobs]
            try:
                wait(tasks, return_when=FIRST_EXCEPTION)
                return [task.result() for task in tasks]
            except BaseException:
                # start no more jobs; those that run end their steps and mark their runs
                for task in tasks:
                    task.cancel()
                interrupted.set()
                raise


def _run_composed_job(config: DictConfig) -> JobReturn:
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    overrides = list(map(str, hydra.overrides.task))
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=run_job(config, hydra))
