"""The one place that moves the alias `champion`: by the gate's verdict or by hand, and never over somebody else's move.

MLflow sets an alias whatever it was before. So whoever moves it first says so on the registered model (a claim), looks
whether anybody else does, and only then looks at the alias and sets it. Of two that do this at the same moment at
least one sees the other's claim, and steps back. A move that was made without a claim (in MLflow's pages) is seen too,
unless it falls between that look and the setting, which follow each other at once.
"""

from __future__ import annotations

import getpass
import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from mlflow import MlflowClient

from stepkit.champion import CHAMPION, PREVIOUS, WITHDRAWN, champion_of
from stepkit.errors import ChampionMoved
from stepkit.tracking import through_races

CLAIM = "moving_champion."
"""Tag of the registered model, followed by a token: somebody is about to move its champion, since this time."""

CLAIM_SECONDS = 60.0
"""An older claim is of a process that died."""

TRIES = 20
LONGEST_PAUSE_SECONDS = 0.5

HISTORY = "champion_history"
"""Tag of a version: when it became champion or was withdrawn, by whom and why; a line for each time."""
LONGEST_TAG = 5000


@dataclass(frozen=True)
class Move:
    """Who makes a version the champion, and why; `by_hand`: a person, against or without a verdict of the gate."""

    who: str
    why: str
    by_hand: bool = False


def move_champion(client: MlflowClient, name: str, version: str, expected: str, move: Move) -> None:
    """Make `version` the champion of the registered model `name`, and the champion before it `previous`.

    Args:
        expected: the version that is champion as far as the caller knows; "" if there is none.

    Raises:
        ChampionMoved: another one is, or somebody else is about to move the alias and does not get done with it.
    """
    with alone(client, name):
        champion = champion_of(client, name)
        found = str(champion.version) if champion else ""
        if found != expected:
            now = f"version {found} became champion" if found else "the champion's alias was taken away"
            raise ChampionMoved(f"{now} since the verdict: run evaluate again to compare")
        if found:
            _set_alias(client, name, PREVIOUS, found)
            if move.by_hand:
                withdraw(client, name, found, f"version {version} put in its place by {move.who}: {move.why}")
        _set_alias(client, name, CHAMPION, version)
        client.delete_model_version_tag(name, version, WITHDRAWN)
        instead = f" instead of version {found}" if found else ""
        remember(client, name, version, f"champion{instead}, by {move.who}: {move.why}")


@contextmanager
def alone(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold the right to move the champion of `name`; give it back at the end.

    Raises:
        ChampionMoved: others hold it, at every try.
    """
    for _ in range(TRIES):
        claim = CLAIM + uuid.uuid4().hex
        through_races(partial(client.set_registered_model_tag, name, claim, f"{time.time():.3f}"))
        try:
            if not others(client, name, claim):
                yield
                return
        finally:
            client.delete_registered_model_tag(name, claim)
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))
    raise ChampionMoved(f"somebody else is moving the champion of {name}. Try again in a minute")


def others(client: MlflowClient, name: str, own: str) -> list[str]:
    """The claims of others that are not too old to be alive."""
    tags = client.get_registered_model(name).tags
    oldest = time.time() - CLAIM_SECONDS
    return [tag for tag, since in tags.items() if tag.startswith(CLAIM) and tag != own and float(since) > oldest]


def withdraw(client: MlflowClient, name: str, version: str, why: str) -> None:
    client.set_model_version_tag(name, version, WITHDRAWN, why[:LONGEST_TAG])
    remember(client, name, version, f"withdrawn, {why}")


def remember(client: MlflowClient, name: str, version: str, what: str) -> None:
    """Add a line with the time to the history of a version; the oldest go when it gets too long."""
    lines = history(client.get_model_version(name, version).tags)
    lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {' '.join(what.split())}"[:1000])
    while len("\n".join(lines)) > LONGEST_TAG:
        lines.pop(0)
    client.set_model_version_tag(name, version, HISTORY, "\n".join(lines))


def history(tags: dict[str, str]) -> list[str]:
    return tags.get(HISTORY, "").splitlines()


def person() -> str:
    """Who is at work here: the name that the tracking server knows, else that of the system."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def _set_alias(client: MlflowClient, name: str, alias: str, version: str) -> None:
    through_races(lambda: client.set_registered_model_alias(name, alias, version))
