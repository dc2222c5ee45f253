"""rollback: make the previous champion the champion again, and leave on both who did it, when and why."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.champion_alias import alone
from register.manual import command, expect_reason, put_in_place, run
from stepkit.errors import BadParameter
from stepkit.settings.load import make_for
from stepkit.store.champion import PREVIOUS
from stepkit.store.tracking import missing_as


def rollback(client: MlflowClient, name: str, reason: str) -> str:
    """Let champion and previous change places, and say what was done.

    Raises:
        BadParameter: no reason, or no previous champion.
        ChampionMoved: somebody else moved the champion at the same moment.
    """
    expect_reason(reason)
    version = previous_of(client, name)
    before = put_in_place(client, name, version, reason)
    instead = f" again, version {before} is withdrawn" if before else " again"
    return f"{name} version {version} is champion{instead}"


def previous_of(client: MlflowClient, name: str) -> str:
    listed, promote = make_for("models", name), make_for("promote", name)
    none = f'{name} has no previous champion. Choose a version ({listed} lists them): {promote} VERSION=n REASON="..."'
    with missing_as(lambda _: BadParameter(none)):
        client.get_model_version_by_alias(name, PREVIOUS)
        with alone(client, name):  # which ends a move that died halfway
            return str(client.get_model_version_by_alias(name, PREVIOUS).version)


def parser() -> argparse.ArgumentParser:
    flags = command(__doc__)
    flags.add_argument("--reason", required=True, help="why, for those who read it later")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    run(lambda client: rollback(client, args.model_name, args.reason))


if __name__ == "__main__":
    main()
