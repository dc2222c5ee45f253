"""Command line: compose the configuration, run the pipeline or each job of a sweep, and report errors."""

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

from pipeline.config import ConfigError, explain_error, parse_config, split_options
from pipeline.execution.mlflow_run import take_project_run
from pipeline.execution.progress import make_console, print_line
from pipeline.execution.runner import StepFailed
from pipeline.execution.single import run_single
from pipeline.sweep import job
from pipeline.sweep.hydra_plugins import register_plugins
from pipeline.sweep.sweep import JobFailed
from stepkit.paths import ROOT
from stepkit.processes import interrupt_on_signals
from stepkit.secret_urls import format_error, hide_secrets_in_text
from stepkit.step.exit import to_step_error

errors = Console(stderr=True)

SETTINGS_PAGE, FAULTS_PAGE = "docs/reference.md", "docs/faults.md"
PAGES = {
    "TableUnfit": "docs/bring-a-table.md",
    "WrongDigest": "docs/bring-a-table.md",
    "DataCheckFailed": "docs/bring-a-table.md",
    "ModelRejected": "docs/judge-and-promote.md",
}
"""Page to read after an error of each class. The page for all other classes is FAULTS_PAGE."""

HYDRA_GROUP_ERROR = "Config group override must be"
"""Beginning of the plain ValueError that Hydra raises for data=3."""


class PipelineEnded(BaseException):
    """Carries the error that ended a pipeline through Hydra, which prints its own lines about an Exception."""


@hydra.main(version_base="1.3", config_path=str(ROOT), config_name="config")
def run(composed: DictConfig) -> float | None:
    """Run one pipeline, or one job of a sweep in a new process.

    Keep this function short: a Hydra launcher may pickle it, with everything that it names, for another machine.
    """
    hydra_config: Any = HydraConfig.get()  # Hydra annotates a class and returns a DictConfig
    if hydra_config.mode == RunMode.MULTIRUN:
        return job.run_in_new_process(composed, hydra_config)
    try:
        run_single(parse_config(composed), make_console(), list(map(str, hydra_config.overrides.task)))
    except Exception as error:
        raise PipelineEnded from error
    return None


def main() -> int:
    """Run the pipeline, or each job of a sweep; return the exit status."""
    # Hydra then raises its errors instead of printing them in its own format.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupt_on_signals()
    raised = _collect_errors()
    if any(isinstance(error, KeyboardInterrupt) for error in raised):
        hint = "All steps were stopped. Run the same command again: finished steps are reused."
        return _print_error("interrupted", hint, 130)
    return max([_report_error(error) for error in raised], default=0)


def _collect_errors() -> list[BaseException]:
    """Run the command line; return the errors that ended it."""
    try:
        take_project_run()
        register_plugins()
        sys.argv[1:] = split_options(sys.argv[1:])
        run()
    except BaseExceptionGroup as group:
        return [_translate_error(error) for error in group.exceptions]
    except PipelineEnded as ended:
        return [_translate_error(ended.__cause__ or ended)]
    except (Exception, KeyboardInterrupt) as error:
        return [_translate_error(error)]
    return []


def _translate_error(error: BaseException) -> BaseException:
    """Return the error to print. An error in our own code is raised again, with its traceback."""
    if isinstance(error, ConfigError | StepFailed | JobFailed | KeyboardInterrupt):
        return error
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ConfigError(explain_error(error))
    if isinstance(error, ValueError) and str(error).startswith(HYDRA_GROUP_ERROR):
        return ConfigError(f"{error}. Data sets, launchers and sweepers have text names, e.g. data=uci.")
    if problem := to_step_error(error):
        return problem
    raise error


def _report_error(error: BaseException) -> int:
    """Print an error; return the exit status: 2 for the configuration, else 1."""
    if isinstance(error, ConfigError):
        return _print_error("configuration", f"{error}\nmore: {SETTINGS_PAGE}", 2)
    text = format_error(error)
    return _print_error("failed", f"{text}\nmore: {choose_help_page(text)}", 1)


def choose_help_page(text: str) -> str:
    """Return the page about the first error class that begins a message or one of its lines."""
    return next((page for kind, page in PAGES.items() if re.search(rf"\b{kind}: ", text)), FAULTS_PAGE)


def _print_error(heading: str, text: str, status: int) -> int:
    errors.print(f"\n[bold red]{heading}[/]", highlight=False)
    print_line(errors, hide_secrets_in_text(text))
    return status
