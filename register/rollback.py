"""rollback: make the previous champion the champion again, and leave on both who did it, when and why."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.champion_alias import claim_champion
from register.manual import make_command_parser, move_by_hand, run_command, verify_reason
from stepkit.errors import BadParameter
from stepkit.settings.load import format_make_command
from stepkit.store.champion import PREVIOUS
from stepkit.store.tracking import handle_missing


def roll_back(client: MlflowClient, name: str, reason: str) -> str:
    """Let champion and previous change places; return what was done, in words.

    Raises:
        BadParameter: no reason, or no previous champion.
        ChampionMoved: another process moved the champion at the same moment.
    """
    verify_reason(reason)
    listed, promote = format_make_command("models", name), format_make_command("promote", name)
    none = f'{name} has no previous champion. Choose a version ({listed} lists them): {promote} VERSION=n REASON="..."'
    with handle_missing(lambda _: BadParameter(none)):
        client.get_model_version_by_alias(name, PREVIOUS)
        with claim_champion(client, name):  # which ends a move that died halfway
            version = str(client.get_model_version_by_alias(name, PREVIOUS).version)
    before = move_by_hand(client, name, version, reason)
    return f"{name} version {version} is champion again{f', version {before} is withdrawn' if before else ''}"


def make_parser() -> argparse.ArgumentParser:
    return make_command_parser(__doc__)


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    run_command(lambda client: roll_back(client, args.model_name, args.reason))


if __name__ == "__main__":
    main()
