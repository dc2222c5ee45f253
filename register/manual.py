"""Shared parts of promote, rollback and models: flags, exit on errors, and a move of the champion by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel

from register.champion_alias import Move, get_user_name, move_champion
from stepkit.errors import BadParameter, ChampionMoved
from stepkit.settings.load import DEFAULT_MODEL, format_make_command
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.store import tracking
from stepkit.store.champion import CHAMPION, find_champion


def make_command_parser(doc: str | None, reason: bool = True) -> argparse.ArgumentParser:
    """Return the parser of a command on the registry, with --model_name and --reason."""
    flags = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--model_name", default=DEFAULT_MODEL, help="name of the registered model")
    if reason:
        flags.add_argument("--reason", required=True, help="reason, kept on the version")
    return flags


def run_command(work: Callable[[MlflowClient], str]) -> None:
    """Connect, call `work` and print its result; exit with status 1 and one message for an error of the user."""
    with exit_on_error():
        tracking.connect()
        print(work(MlflowClient()))


def get_registered_model(client: MlflowClient, name: str) -> RegisteredModel:
    """Return a registered model; raise BadParameter, with the names that exist, if it does not exist."""

    def explain_missing(_: Exception) -> BadParameter:
        names = ", ".join(model.name for model in client.search_registered_models()) or "none"
        run = format_make_command("run", name)
        return BadParameter(f"no registered model {name} (found: {names}). Train and register it: {run}")

    with tracking.handle_missing(explain_missing):
        return client.get_registered_model(name)


def verify_reason(reason: str) -> None:
    """Raise BadParameter if the reason is blank."""
    if not reason.strip():
        raise BadParameter('--reason: empty. Give the reason, which is kept on the version: REASON="..."')


def move_by_hand(client: MlflowClient, name: str, version: str, reason: str) -> str:
    """Make another version the champion by hand; return the number of the old champion, "" for none.

    Raises:
        BadParameter: the version is already champion.
        ChampionMoved: another process moved the champion at the same time.
    """
    champion = find_champion(client, name)
    before = str(champion.version) if champion else ""
    if before == version:
        raise BadParameter(f"{name} version {version}: already {CHAMPION}.")
    try:
        move_champion(client, name, version, before, Move(get_user_name(), reason.strip(), by_hand=True))
    except ChampionMoved as error:
        raise ChampionMoved(
            f"{name}: unchanged, because {error}. List the versions: {format_make_command('models', name)}"
        ) from error
    return before
