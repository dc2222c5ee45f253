"""Small Hydra application; test_launcher.py runs its sweeps on a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hydra import initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from pipeline.config import ConfigError
from pipeline.sweep.hydra_plugins import register_plugin, register_plugins
from pipeline.sweep.launch_ray import RayLauncher
from pipeline.sweep.plugin_settings import GridSettings, SearchSettings
from pipeline.sweep.sweep import GridSweeper, NestedRunSweeper, OptunaSweeper
from stepkit.processes import interrupt_on_signals

CHILD = ["sleep", "86399.5"]
"""Command of a child process in its own session, like a step of the pipeline."""

CONFIG = {
    "x": 1,
    "seconds": 0.0,
    "looks_for": "/",
    "killed": -1,
    "broken": -1,
    "hangs": False,
    "hydra": {"output_subdir": None, "sweep": {"dir": "outputs", "subdir": "."}},
}
QUIET = ["hydra/hydra_logging=none", "hydra/job_logging=none"]


def run_job(config: DictConfig) -> Any:
    """Return facts about the worker. Ray sends the source of this function, because it is in the main module."""
    from hydra.core.hydra_config import HydraConfig
    from ray.util import get_node_ip_address

    import pipeline.steps

    number = HydraConfig.get().job.num
    if number == config.killed:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == config.broken:
        raise ValueError(f"job {number} is broken")
    if config.hangs:
        _hang()
    time.sleep(config.seconds)
    return {
        "x": config.x,
        "number": number,
        "node": get_node_ip_address(),  # type: ignore[no-untyped-call]  # Ray types its interface in part
        "code": pipeline.steps.__file__,
        "folder": str(Path.cwd()),
        "python": sys.executable,
        "sees": Path(config.looks_for).exists(),
        "env": {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_") or name == "OWN"},
    }


def _hang() -> None:
    child = subprocess.Popen(CHILD, start_new_session=True)
    try:
        while child.poll() is None:  # Ray's interrupt comes between two calls only
            time.sleep(0.05)
    except KeyboardInterrupt:
        child.terminate()
        raise


def compute_value(config: DictConfig) -> float:
    """Return the objective of a job in a search."""
    return float(run_job(config)["x"])


def collect_results(sweeper: NestedRunSweeper, arguments: list[str]) -> dict[str, Any]:
    """Run the jobs without a pipeline; return their results, and the reasons for missing ones."""
    results = [job.return_value for batch in sweeper.run_jobs(arguments) for job in batch]
    assert isinstance(sweeper.launcher, RayLauncher)
    return {"results": results, "lost": sorted(sweeper.launcher.lost.items())}


class Grid(GridSweeper):
    def sweep(self, arguments: list[str]) -> Any:
        return collect_results(self, arguments)


class Search(OptunaSweeper):
    def sweep(self, arguments: list[str]) -> Any:
        return collect_results(self, arguments)


def main() -> int:
    """Run a sweep; print the results as the last line."""
    register_plugins()
    register_plugin("hydra/sweeper", "basic", Grid, GridSettings)
    register_plugin("hydra/sweeper", "optuna", Search, SearchSettings)
    interrupt_on_signals()
    ConfigStore.instance().store("app", CONFIG)
    overrides = sys.argv[1:]
    try:
        with initialize(version_base="1.3", config_path=None):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            searches = "hydra/sweeper=optuna" in overrides
            print(json.dumps(hydra.multirun("app", compute_value if searches else run_job, [*QUIET, *overrides])))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
