"""The jobs of a sweep side by side in this process (hydra/launcher=threads).

A job's own process would load every library anew; here its steps, which are processes anyway, start from the one
that has them loaded, and what runs in a thread only waits for them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from omegaconf import DictConfig, open_dict

from pipeline.sweep.compose import composed
from pipeline.sweep.job import run_job
from pipeline.sweep.plugin_settings import ReadyLauncher, ThreadsSettings
from stepkit.processes import interrupted


def launch(
    launcher: ReadyLauncher, settings: ThreadsSettings, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run jobs, at most `n_jobs` at a time; return what they found, in their order.

    Raises:
        KeyboardInterrupt: passed on after every job has ended its steps.
    """
    setup_globals()
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    # composed one after the other: Hydra keeps what it works on in one place for the whole process
    jobs = [composed(launcher, initial_job_idx + index, one) for index, one in enumerate(job_overrides)]
    at_a_time = settings.n_jobs if settings.n_jobs > 0 else os.cpu_count()  # -1: all cores, as with joblib
    with ThreadPoolExecutor(at_a_time, thread_name_prefix="job") as pool:
        tasks = [pool.submit(_run, job) for job in jobs]
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
            return [task.result() for task in tasks]
        except BaseException:
            _end(tasks)
            raise


def _run(config: DictConfig) -> JobReturn:
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    overrides = list(map(str, hydra.overrides.task))
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=run_job(config, hydra))


def _end(tasks: list[Future[JobReturn]]) -> None:
    """Begin no more jobs, and let those that run end their steps and mark their runs."""
    for task in tasks:
        task.cancel()
    interrupted.set()
