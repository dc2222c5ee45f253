"""models: list the versions of a registered model, newest first, with verdict, aliases and history."""

from __future__ import annotations

import argparse
import io
import sys
from contextlib import suppress
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.table import Table
from rich.text import Text

from register.champion_alias import read_history
from register.manual import make_command_parser, run_command
from register.promote import REASON_TAG
from stepkit.errors import BadParameter
from stepkit.settings.load import format_make_command
from stepkit.store.lineage import read_data_set
from stepkit.store.tracking import handle_missing

PIPE_WIDTH = 130


def format_models(client: MlflowClient, name: str) -> str:
    """Return the table of all versions as text.

    Raises:
        BadParameter: the registered model does not exist.
    """
    with handle_missing(
        lambda _: BadParameter(f"no registered model {name}. Train and register it: {format_make_command('run', name)}")
    ):
        aliases = client.get_registered_model(name).aliases
    table = Table(title=Text(name), title_justify="left")
    for heading in ("version", "aliases", "data set", "verdict", "test ROC AUC", "registered (UTC)", "history"):
        table.add_column(
            heading, justify="right" if heading in ("version", "test ROC AUC") else "left", overflow="fold"
        )
    versions = client.search_model_versions(f"name='{name}'", max_results=1000)
    for version in sorted(versions, key=lambda version: -int(version.version)):
        names = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
        table.add_row(*map(Text, format_row(version, sorted(names))))
    is_terminal = sys.stdout.isatty()
    console = Console(file=io.StringIO(), width=None if is_terminal else PIPE_WIDTH, force_terminal=is_terminal)
    with console.capture() as text:
        console.print(table)
    return text.get().rstrip()


def format_row(version: ModelVersion, aliases: list[str]) -> list[str]:
    """Return the cells of a version's row. The history starts with the reasons of failed rules."""
    tags = version.tags
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    auc = tags.get("test_auc", "")
    with suppress(ValueError):
        auc = f"{float(auc):.4f}"
    return [
        str(version.version),
        ", ".join(aliases),
        str(read_data_set(tags)),
        tags.get("verdict", "none").replace("_", " "),
        auc,
        f"{registered:%Y-%m-%d %H:%M}",
        "\n".join([*(text for tag, text in sorted(tags.items()) if tag.startswith(REASON_TAG)), *read_history(tags)]),
    ]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return make_command_parser(__doc__, reason=False)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    run_command(lambda client: format_models(client, args.model_name))


if __name__ == "__main__":
    main()
