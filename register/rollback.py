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
    """Let champion and previous change places; return what was done, in words.

    Raises:
        BadParameter: no reason, or no previous champion.
        ChampionMoved: another process moved the champion at the same moment.
    """
    expect_reason(reason)
    listed, promote = make_for("models", name), make_for("promote", name)
    none = f'{name} has no previous champion. Choose a version ({listed} lists them): {promote} VERSION=n REASON="..."'
    with missing_as(lambda _: BadParameter(none)):
        client.get_model_version_by_alias(name, PREVIOUS)
        with alone(client, name):  # which ends a move that died halfway
            version = str(client.get_model_version_by_alias(name, PREVIOUS).version)
    before = put_in_place(client, name, version, reason)
    return f"{name} version {version} is champion again{f', version {before} is withdrawn' if before else ''}"


def parser() -> argparse.ArgumentParser:
    return command(__doc__)


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    run(lambda client: rollback(client, args.model_name, args.reason))


if __name__ == "__main__":
    main()
