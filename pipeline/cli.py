"""The command line: compose the configuration, check it, run the pipeline or each job of a sweep."""

from __future__ import annotations

import logging
import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from pipeline.config import ConfigError, checked, explain, split_options
from pipeline.runner import StepFailed, run_pipeline
from pipeline.runs import Launched
from pipeline.signals import end_on_signals
from stepkit import tracking
from stepkit.errors import StepError
from stepkit.tracking import ROOT

# a pipe has no width; lines there are for programs and logs, which wrap as they like
console = Console(width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True)
launched = Launched.from_environment()
failures: list[Exception] = []


@hydra.main(version_base="1.3", config_path=str(ROOT), config_name="config")
def run(composed: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    job = "" if hydra_config.mode == RunMode.RUN else f"{hydra_config.job.num}: {hydra_config.job.override_dirname}"
    try:
        run_pipeline(checked(composed), console, launched, job)
    except (ConfigError, StepFailed, StepError) as error:
        # kept for main(): Hydra would print its own lines about it, and end a sweep at its first bad job
        failures.append(error)
    except (MlflowException, OSError) as error:
        if not tracking.is_unreachable(error):
            raise
        failures.append(tracking.gone(error))


def main() -> int:
    """Run the pipeline, or each job of a sweep; return the exit status."""
    # Hydra then hands its errors on instead of printing its own page about them
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    end_on_signals()
    try:
        sys.argv[1:] = split_options(sys.argv[1:])
        run()
    except ConfigError as error:
        failures.append(error)
    except (HydraException, OmegaConfBaseException) as error:
        failures.append(ConfigError(explain(error)))
    except KeyboardInterrupt:
        return _say("interrupted", "Every step was ended. Run the same command again to start over.", 130)
    return max([_report(error) for error in failures], default=0)


def _report(error: Exception) -> int:
    """Print what went wrong; return the exit status: 2 for the configuration, 1 for the rest."""
    if isinstance(error, ConfigError):
        return _say("configuration", str(error), 2)
    kind = f"{type(error).__name__}: " if isinstance(error, StepError) else ""
    return _say("failed", f"{kind}{error}", 1)


def _say(what: str, text: str, status: int) -> int:
    errors.print(f"\n[bold red]{what}[/]", highlight=False)
    errors.print(text, markup=False, highlight=False, soft_wrap=True)
    return status
