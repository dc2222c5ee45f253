"""replay: apply another policy to the windows of a drift experiment, and print its decisions."""

from __future__ import annotations

import argparse
from dataclasses import replace
from shlex import quote

import mlflow
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from drift.history import NO_MODEL, fetch_runs, to_observation
from drift.policy import Decision, Observation, decide
from drift.settings import get_reference_model, load_monitoring
from stepkit.errors import BadParameter
from stepkit.settings.drift import Monitoring, Policy
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser, add_settings
from stepkit.store import tracking
from stepkit.store.model_address import ADDRESS


def replay(policy: Policy, windows: list[Observation]) -> list[tuple[Observation, Decision]]:
    """Return the decision of this policy about each window, given the windows before it."""
    decided: list[tuple[Observation, Decision]] = []
    for window in sorted(windows, key=lambda window: window.time):
        past = [replace(earlier, action=decision.action) for earlier, decision in decided]
        decided.append((window, decide(policy, past, window)))
    return decided


def print_table(decided: list[tuple[Observation, Decision]]) -> None:
    """Print a table of the windows with the recorded and the new decisions."""
    table = Table(
        Column("until (UTC)", no_wrap=True),
        "version",
        "rows",
        "recorded",
        "replayed",
        Column("reason", overflow="fold"),
    )
    for window, decision in decided:
        until = f"{window.time:%Y-%m-%d %H:%M:%S}"
        cells = until, window.version, f"{window.rows:,}", window.action, decision.action, decision.reason
        table.add_row(*map(Text, cells))  # Text, because rich reads [brackets] in a str as markup
    Console().print(table)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = Parser(prog="replay", description=__doc__)
    flags.add_argument("--experiment", default="drift", help="MLflow experiment that contains the windows")
    add_settings(flags, Monitoring, "model_name", *Policy.model_fields)
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    flags = vars(make_parser().parse_args(argv))
    with exit_on_error():
        settings = load_monitoring(flags)
        tracking.connect()
        name = get_watched_name(flags["model_name"])
        windows = [to_observation(run) for run in fetch_runs(get_experiment_id(flags["experiment"]), name)]
    decided = replay(settings, windows)
    print_table(decided)
    actions = [decision.action for _, decision in decided]
    print(f"{name}: windows {len(decided)}, alerts {actions.count('alert')}, retrainings {actions.count('retrain')}")


def get_watched_name(model_name: str, reference: str = "") -> str:
    """Return the model name under which `drift` with these flags stores its windows; "" as in config.yaml."""
    typed = {"model_name": model_name, "reference": reference or ("none" if model_name else "")}
    match = ADDRESS.match(get_reference_model(load_monitoring(typed)))
    return match["name"] if match else NO_MODEL


def get_experiment_id(name: str) -> str:
    """Return the ID of an experiment.

    Raises:
        BadParameter: no experiment has this name.
    """
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        raise BadParameter(
            f"--experiment: no experiment '{name}'. Compare a window first: "
            f"mlflow run ./drift --env-manager local --experiment-name {quote(name)}"
        )
    return str(experiment.experiment_id)


if __name__ == "__main__":
    main()
