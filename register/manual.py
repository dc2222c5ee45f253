"""What promote, rollback and models share: versions, looked up with clear words, and how a command ends."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from register.champion_alias import Move, move_champion, person
from stepkit.errors import BadParameter, ChampionMoved
from stepkit.settings.load import DEFAULT_MODEL, make_for
from stepkit.step.exit import one_message
from stepkit.step.flags import Parser
from stepkit.store import tracking
from stepkit.store.champion import CHAMPION, champion_of


def command(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser for what every command on the registry takes."""
    flags = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--model_name", default=DEFAULT_MODEL, help="name of the registered model")
    return flags


def run(work: Callable[[MlflowClient], str]) -> None:
    """Connect, do some work, print what it says; end with one message and status 1 for what a person can mend."""
    with one_message():
        tracking.connect()
        print(work(MlflowClient()))


def version_of(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Return a version of the registered model.

    Raises:
        BadParameter: no number, or there is no such version.
    """
    listed = f"{make_for('models', name)} lists them"
    if not version.isdecimal():
        raise BadParameter(f"'{version}' is not a version. Name its number, VERSION=2; {listed}.")
    with tracking.missing_as(lambda _: BadParameter(f"{name} has no version {version}; {listed}.")):
        return client.get_model_version(name, version)


def expect_reason(reason: str) -> None:
    """Raise BadParameter if nothing is said: who reads the registry later wants to know why."""
    if not reason.strip():
        raise BadParameter('say why, for those who read it later: REASON="..."')


def put_in_place(client: MlflowClient, name: str, version: str, reason: str) -> str:
    """Move the champion by hand to another version; return what was champion before ("" for none).

    Raises:
        BadParameter: it is champion already.
        ChampionMoved: somebody else moved it at the same moment.
    """
    champion = champion_of(client, name)
    before = str(champion.version) if champion else ""
    if before == version:
        raise BadParameter(f"version {version} of {name} is the {CHAMPION} already.")
    try:
        move_champion(client, name, version, before, Move(person(), reason.strip(), by_hand=True))
    except ChampionMoved as error:
        raise ChampionMoved(f"nothing was changed: {error}. Look first: {make_for('models', name)}") from error
    return before
