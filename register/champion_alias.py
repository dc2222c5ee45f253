"""The one place that moves the alias `champion`: by the gate's verdict or by hand, never over another one's move.

MLflow sets an alias whatever it was before. So a process that moves it first notes a claim on the registered model,
looks for other claims, and only then looks at the alias and sets it. Of two that do this at the same moment at least
one sees the other's claim, and steps back. A move that was made without a claim (in MLflow's pages) is seen too, unless
it falls between that look and the setting, which follow each other at once.

A claim names its process and what was champion before it. A process that dies between its two aliases leaves `previous`
on the champion itself; the next move finds its claim, and corrects `previous`.
"""

from __future__ import annotations

import getpass
import json
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

from stepkit.errors import ChampionMoved
from stepkit.processes import is_alive, make_process_tags
from stepkit.store.champion import CHAMPION, HISTORY, PREVIOUS, WITHDRAWN, find_version_by_alias
from stepkit.store.tracking import retry_races

CLAIM = "moving_champion."
"""Tag of the registered model, followed by a token: a process is about to move its champion, since this time."""

CLAIM_SECONDS = 60.0
"""An older claim of another host is of a process that died; of this host it is known which processes live."""

TRIES = 20
LONGEST_PAUSE_SECONDS = 0.5
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
        ChampionMoved: another one is, or another process is moving the alias and does not finish.
    """
    with claim_champion(client, name):
        found = _find_version(client, name, CHAMPION)
        if found != expected:
            now = f"version {found} became champion" if found else "the champion's alias was taken away"
            raise ChampionMoved(f"{now} since the verdict: run evaluate again to compare")
        set_alias(client, name, CHAMPION, version)
        if found:
            set_alias(client, name, PREVIOUS, found)
            if move.by_hand:
                why = f"version {version} put in its place by {move.who}: {move.why}"
                client.set_model_version_tag(name, found, WITHDRAWN, why[:LONGEST_TAG])
                _add_to_history(client, name, found, f"withdrawn, {why}")
        client.delete_model_version_tag(name, version, WITHDRAWN)
        instead = f" instead of version {found}" if found else ""
        _add_to_history(client, name, version, f"champion{instead}, by {move.who}: {move.why}")


@contextmanager
def claim_champion(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold the right to move the champion of `name`; give it back at the end. First end the moves of dead processes.

    Raises:
        ChampionMoved: others hold it, at every try.
    """
    for _ in range(TRIES):
        tag, own = CLAIM + uuid.uuid4().hex, {"since": f"{time.time():.3f}", **make_process_tags()}
        _set_claim(client, name, tag, own)
        others = {other: claim for other, claim in _read_claims(client, name).items() if other != tag}
        if all(map(_is_over, others.values())):
            for other, claim in others.items():
                _end_move(client, name, other, claim)
            own[CHAMPION] = _find_version(client, name, CHAMPION)
            _set_claim(client, name, tag, own)
            try:
                yield
            finally:
                _end_move(client, name, tag, own)
            return
        client.delete_registered_model_tag(name, tag)
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))
    raise ChampionMoved(f"somebody else is moving the champion of {name}. Try again in a minute")


def _set_claim(client: MlflowClient, name: str, tag: str, claim: dict[str, str]) -> None:
    retry_races(partial(client.set_registered_model_tag, name, tag, json.dumps(claim)))


def _read_claims(client: MlflowClient, name: str) -> dict[str, dict[str, str]]:
    """Return the claims on the registered model by their tags; an earlier release wrote only the time into one."""
    tags = client.get_registered_model(name).tags
    found = {tag: json.loads(text) for tag, text in tags.items() if tag.startswith(CLAIM)}
    return {tag: claim if isinstance(claim, dict) else {"since": str(claim)} for tag, claim in found.items()}


def _is_over(claim: dict[str, str]) -> bool:
    """Return whether the process that made a claim has died, or may be taken for dead."""
    alive = is_alive(claim)
    return time.time() - float(claim["since"]) > CLAIM_SECONDS if alive is None else not alive


def _end_move(client: MlflowClient, name: str, tag: str, claim: dict[str, str]) -> None:
    """Take a claim away; first set `previous` if the move did not get to its second alias."""
    champion, before = _find_version(client, name, CHAMPION), claim.get(CHAMPION, "")
    if before not in ("", champion) and before != _find_version(client, name, PREVIOUS):
        set_alias(client, name, PREVIOUS, before)
        client.delete_model_version_tag(name, champion, WITHDRAWN)
    client.delete_registered_model_tag(name, tag)


def _find_version(client: MlflowClient, name: str, alias: str) -> str:
    found = find_version_by_alias(client, name, alias)
    return str(found.version) if found else ""


def _add_to_history(client: MlflowClient, name: str, version: str, what: str) -> None:
    """Add a line with the time to the history of a version; drop the oldest where it gets too long."""
    lines = read_history(client.get_model_version(name, version).tags)
    lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {' '.join(what.split())}"[:1000])
    while len("\n".join(lines)) > LONGEST_TAG:
        lines.pop(0)
    client.set_model_version_tag(name, version, HISTORY, "\n".join(lines))


def read_history(tags: dict[str, str]) -> list[str]:
    return tags.get(HISTORY, "").splitlines()


def get_user_name() -> str:
    """Return the user's name: that which the tracking server knows, else that of the system."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def set_alias(client: MlflowClient, name: str, alias: str, version: str) -> None:
    retry_races(partial(client.set_registered_model_alias, name, alias, version))
