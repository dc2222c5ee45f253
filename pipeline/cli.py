"""The command line: compose the configuration, run the pipeline or each job of a sweep, report what went wrong."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from pipeline.config import ConfigError, checked, explain, split_options
from pipeline.execution.mlflow_run import launched
from pipeline.execution.progress import new_console, print_line
from pipeline.execution.runner import StepFailed
from pipeline.execution.single import run_single
from pipeline.sweep import job
from pipeline.sweep.hydra_plugins import register_plugins
from pipeline.sweep.sweep import JobFailed
from stepkit.paths import ROOT
from stepkit.processes import interrupt_on_signals
from stepkit.secret_urls import error_text, shown_in
from stepkit.step.exit import as_step_error

errors = Console(stderr=True)

SETTINGS_PAGE, FAULTS_PAGE = "docs/reference.md", "docs/faults.md"
PAGES = {
    "TableUnfit": "docs/bring-a-table.md",
    "WrongDigest": "docs/bring-a-table.md",
    "DataCheckFailed": "docs/change-a-check.md",
    "ModelRejected": "README.md#evaluate-decide-register",
}
"""The page that goes on where a message of this kind ends; of others, the table of faults."""

GROUP_IS_NO_TEXT = "Config group override must be"
"""How Hydra's message begins about data=3, which it raises as a plain ValueError."""


class PipelineEnded(BaseException):
    """Carries the error that ended a pipeline through Hydra, which prints lines of its own about an Exception."""


@hydra.main(version_base="1.3", config_path=str(ROOT), config_name="config")
def run(composed: DictConfig) -> float | None:
    # as short as can be: a launcher of Hydra may send it, with all that it names here, to another machine
    hydra_config: Any = HydraConfig.get()  # Hydra types it as a class, and hands out a DictConfig
    if hydra_config.mode == RunMode.MULTIRUN:
        return job.run_here(composed, hydra_config)
    try:
        run_single(checked(composed), new_console(), list(map(str, hydra_config.overrides.task)))
    except Exception as error:
        raise PipelineEnded from error
    return None


def main() -> int:
    """Run the pipeline, or each job of a sweep; return the exit status."""
    # Hydra then hands its errors on instead of printing its own page about them
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupt_on_signals()
    problems = _problems_of_all()
    if any(isinstance(one, KeyboardInterrupt) for one in problems):
        hint = "Every step was ended. Run the same command again: what is finished is reused."
        return _say("interrupted", hint, 130)
    return max([_report(one) for one in problems], default=0)


def _problems_of_all() -> list[BaseException]:
    """Run what the command line says; return what went wrong."""
    try:
        launched()
        register_plugins()
        sys.argv[1:] = split_options(sys.argv[1:])
        run()
    except BaseExceptionGroup as sweep:
        return [_explained(error) for error in sweep.exceptions]
    except PipelineEnded as ended:
        return [_explained(ended.__cause__ or ended)]
    except (Exception, KeyboardInterrupt) as error:
        return [_explained(error)]
    return []


def _explained(error: BaseException) -> BaseException:
    """Return the error to show for one that was raised; one of our own code is raised again, with its traceback."""
    if isinstance(error, ConfigError | StepFailed | JobFailed | KeyboardInterrupt):
        return error
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ConfigError(explain(error))
    if isinstance(error, ValueError) and str(error).startswith(GROUP_IS_NO_TEXT):
        return ConfigError(f"{error}. Names of data sets, launchers and sweepers are texts, e.g. data=uci.")
    if problem := as_step_error(error):
        return problem
    raise error


def _report(error: BaseException) -> int:
    """Print what went wrong; return the exit status: 2 for the configuration, 1 for the rest."""
    if isinstance(error, ConfigError):
        return _say("configuration", f"{error}\nmore: {SETTINGS_PAGE}", 2)
    text = error_text(error)
    return _say("failed", f"{text}\nmore: {page_about(text)}", 1)


def page_about(text: str) -> str:
    """The page of docs/ that helps with a message, which begins or has a line that begins with its kind."""
    return next((page for kind, page in PAGES.items() if re.search(rf"\b{kind}: ", text)), FAULTS_PAGE)


def _say(what: str, text: str, status: int) -> int:
    errors.print(f"\n[bold red]{what}[/]", highlight=False)
    print_line(errors, shown_in(text))
    return status
