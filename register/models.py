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
from register.manual import get_registered_model, make_command_parser, run_command
from stepkit.settings.model import CALIBRATION, NOT_CALIBRATED
from stepkit.store.champion import REASON_TAG
from stepkit.store.lineage import SWAP, read_data_set

PIPE_WIDTH = 130


def format_models(client: MlflowClient, name: str) -> str:
    """Return the table of all versions as text.

    Raises:
        BadParameter: the registered model does not exist.
    """
    aliases = get_registered_model(client, name).aliases
    table = Table(title=Text(name), title_justify="left")
    for heading in (
        "version",
        "aliases",
        "data set",
        "verdict",
        "calibration",
        "test ROC AUC",
        "registered (UTC)",
        "history",
    ):
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
    """Return the cells of a version's row. The history starts with the reasons of failed rules and the swap set."""
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
        tags.get(CALIBRATION, NOT_CALIBRATED),
        auc,
        f"{registered:%Y-%m-%d %H:%M}",
        "\n".join([*list_reasons(tags), *list_swap(tags), *read_history(tags)]),
    ]


def list_reasons(tags: dict[str, str]) -> list[str]:
    """Return the reasons of the failed rules. A version that may be worse is also not better, which is not repeated."""
    reasons = {tag.removeprefix(REASON_TAG): text for tag, text in sorted(tags.items()) if tag.startswith(REASON_TAG)}
    if "not_worse_than_champion" in reasons:
        reasons.pop("better_than_champion", None)
    return [f"gate: {text}" for text in reasons.values()]


def list_swap(tags: dict[str, str]) -> list[str]:
    """Return the result of the last comparison with answers on record."""
    return [f"swap: {tags[SWAP]}"] if SWAP in tags else []


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return make_command_parser(__doc__, reason=False)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    run_command(lambda client: format_models(client, args.model_name))


if __name__ == "__main__":
    main()
