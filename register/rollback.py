"""rollback: make the previous champion the champion again, and record user, time and reason on both versions."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.champion_alias import claim_champion
from register.manual import get_registered_model, make_command_parser, move_by_hand, run_command, verify_reason
from stepkit.errors import BadParameter
from stepkit.settings.load import format_make_command
from stepkit.store.champion import PREVIOUS
from stepkit.store.tracking import handle_missing


def roll_back(client: MlflowClient, name: str, reason: str) -> str:
    """Exchange champion and previous; return the result in words.

    Raises:
        BadParameter: no reason, no such model, or no previous champion.
        ChampionMoved: another process moved the champion at the same time.
    """
    verify_reason(reason)
    models, promote = format_make_command("models", name), format_make_command("promote", name)
    get_registered_model(client, name)
    missing = (
        f"{name}: no previous champion, because only one version has been champion. Choose a version ({models}): "
        f'{promote} VERSION=n REASON="..."'
    )
    with handle_missing(lambda _: BadParameter(missing)):
        client.get_model_version_by_alias(name, PREVIOUS)
        with claim_champion(client, name):  # completes the move of a process that died
            version = str(client.get_model_version_by_alias(name, PREVIOUS).version)
    old = move_by_hand(client, name, version, reason)
    withdrawn = f"; version {old} is withdrawn and now previous" if old else ""
    return f"{name} version {version} is champion again{withdrawn}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return make_command_parser(__doc__)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    run_command(lambda client: roll_back(client, args.model_name, args.reason))


if __name__ == "__main__":
    main()
