"""replay: the windows of a drift experiment + a policy -> what it would have decided about each of them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from shlex import quote

import mlflow
from rich.console import Console
from rich.table import Table
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
    """Decide about each window with the windows before it, as this policy would have decided then."""
    decided: list[tuple[Observation, Decision]] = []
    for window in sorted(windows, key=lambda one: one.time):
        past = [replace(before, action=decision.action) for before, decision in decided]
        decided.append((window, decide(policy, past, window)))
    return decided


def print_table(decided: list[tuple[Observation, Decision]]) -> None:
    table = Table("window until (UTC)", "version", "rows", "then", "now", "reason")
    for window, decision in decided:
        shown = f"{window.time:%Y-%m-%d %H:%M:%S}"
        cells = shown, window.version, f"{window.rows:,}", window.action, decision.action, decision.reason
        table.add_row(*map(Text, cells))  # a reason in [brackets] is text, not markup
    Console().print(table)


def make_parser() -> argparse.ArgumentParser:
    flags = Parser(prog="replay", description=__doc__)
    flags.add_argument("--experiment", default="drift", help="name of the experiment with the windows")
    add_settings(flags, Monitoring, "model_name", *Policy.model_fields)
    return flags


def main(argv: list[str] | None = None) -> None:
    given = vars(make_parser().parse_args(argv))
    with exit_on_error():
        settings = load_monitoring(given)
        tracking.connect()
        name = get_watched_name(given["model_name"])
        windows = [to_observation(run) for run in fetch_runs(get_experiment_id(given["experiment"]), name)]
    decided = replay(settings, windows)
    print_table(decided)
    actions = [decision.action for _, decision in decided]
    print(f"{len(decided)} windows of {name}: {actions.count('alert')} alerts, {actions.count('retrain')} retrainings")


def get_watched_name(model_name: str, reference: str = "") -> str:
    """Return the name under which the windows are that these flags of `drift` make, empty ones as in config.yaml."""
    typed = {"model_name": model_name, "reference": reference or ("none" if model_name else "")}
    named = ADDRESS.match(get_reference_model(load_monitoring(typed)))
    return named["name"] if named else NO_MODEL


def get_experiment_id(name: str) -> str:
    """Return the id of an experiment.

    Raises:
        BadParameter: there is none of this name.
    """
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        raise BadParameter(
            f"no experiment '{name}'. Make windows first: "
            f"mlflow run ./drift --env-manager local --experiment-name {quote(name)}"
        )
    return str(experiment.experiment_id)


if __name__ == "__main__":
    main()
