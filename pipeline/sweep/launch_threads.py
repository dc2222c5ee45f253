"""Launcher that runs the jobs of a sweep in threads of this process (hydra/launcher=threads).

A process per job would load every library again. Here the steps start from the forkserver, which has them loaded, and
the thread of a job only waits for its steps.
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
    """Launcher that runs jobs in threads of this process."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run jobs, at most `n_jobs` at a time; return their results in order.

        Raises:
            KeyboardInterrupt: raised again after every job has stopped its steps.
        """
        n_jobs = parse_settings(ThreadsSettings, self.settings, "hydra.launcher").n_jobs
        jobs = self.compose_jobs(job_overrides, initial_job_idx)
        max_workers = n_jobs if n_jobs > 0 else os.cpu_count()  # -1: one job per core, as with joblib
        with ThreadPoolExecutor(max_workers, thread_name_prefix="job") as pool:
            tasks = [pool.submit(_run_composed_job, job) for job in jobs]
            try:
                wait(tasks, return_when=FIRST_EXCEPTION)
                return [task.result() for task in tasks]
            except BaseException:
                # Start no more jobs. Running jobs stop their steps and mark their runs.
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
