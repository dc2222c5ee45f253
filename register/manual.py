"""What promote, rollback and models share: flags, the end of a command, and a move of the champion by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from mlflow import MlflowClient

from register.champion_alias import Move, get_user_name, move_champion
from stepkit.errors import BadParameter, ChampionMoved
from stepkit.settings.load import DEFAULT_MODEL, format_make_command
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.store import tracking
from stepkit.store.champion import CHAMPION, find_champion


def make_command_parser(doc: str | None, reason: bool = True) -> argparse.ArgumentParser:
    """Return a parser for the flags of a command on the registry."""
    flags = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--model_name", default=DEFAULT_MODEL, help="name of the registered model")
    if reason:
        flags.add_argument("--reason", required=True, help="why, for those who read it later")
    return flags


def run_command(work: Callable[[MlflowClient], str]) -> None:
    """Connect, do some work, print its result; end with one message and status 1 for what the user can correct."""
    with exit_on_error():
        tracking.connect()
        print(work(MlflowClient()))


def verify_reason(reason: str) -> None:
    """Raise BadParameter if the reason is blank."""
    if not reason.strip():
        raise BadParameter('say why, for those who read it later: REASON="..."')


def move_by_hand(client: MlflowClient, name: str, version: str, reason: str) -> str:
    """Move the champion by hand to another version; return what was champion before ("" for none).

    Raises:
        BadParameter: it is champion already.
        ChampionMoved: another process moved it at the same moment.
    """
    champion = find_champion(client, name)
    before = str(champion.version) if champion else ""
    if before == version:
        raise BadParameter(f"version {version} of {name} is the {CHAMPION} already.")
    try:
        move_champion(client, name, version, before, Move(get_user_name(), reason.strip(), by_hand=True))
    except ChampionMoved as error:
        raise ChampionMoved(
            f"nothing was changed: {error}. Look first: {format_make_command('models', name)}"
        ) from error
    return before
