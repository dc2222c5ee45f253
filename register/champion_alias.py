"""Moves of the alias `champion`, by the gate or by hand. No other module sets this alias.

MLflow sets an alias without a check of its old value, so two processes could overwrite each other's moves. Therefore a
process first writes a claim on the registered model, then reads the other claims, and only then reads and sets the
alias. Of two simultaneous processes, at least one reads the other's claim and withdraws its own. A move without a claim
(in MLflow's pages) is detected unless it happens between the read and the set, which follow each other directly.

A claim contains its process and the champion before the move. A process that dies after setting `champion` leaves
`previous` on the new champion. The next move finds the claim and corrects `previous`.
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
"""Prefix of the tag with a claim on the registered model; a random token follows."""

CLAIM_SECONDS = 60.0
"""Age at which a claim from another host counts as dead. On this host, the process itself is checked."""

TRIES = 20
LONGEST_PAUSE_SECONDS = 0.5
LONGEST_TAG = 5000


@dataclass(frozen=True)
class Move:
    """Author of a move and the reason; `by_hand` if a user moves the champion, whatever the gate's verdict is."""

    who: str
    why: str
    by_hand: bool = False


def move_champion(client: MlflowClient, name: str, version: str, expected: str, move: Move) -> None:
    """Make `version` the champion of the registered model `name`, and the old champion `previous`.

    `expected` is the version that the caller takes for the champion, "" for none.

    Raises:
        ChampionMoved: another version is champion, or another process does not finish its move.
    """
    with claim_champion(client, name):
        old = _find_version(client, name, CHAMPION)
        if old != expected:
            change = f"version {old} became champion" if old else "the alias champion was deleted"
            raise ChampionMoved(f"{change} in the meantime. Run evaluate again to compare")
        set_alias(client, name, CHAMPION, version)
        if old:
            set_alias(client, name, PREVIOUS, old)
            if move.by_hand:
                reason = f"replaced by version {version}, by {move.who}: {move.why}"
                client.set_model_version_tag(name, old, WITHDRAWN, reason[:LONGEST_TAG])
                _add_to_history(client, name, old, f"withdrawn, {reason}")
        client.delete_model_version_tag(name, version, WITHDRAWN)
        instead = f" instead of version {old}" if old else ""
        _add_to_history(client, name, version, f"champion{instead}, by {move.who}: {move.why}")


@contextmanager
def claim_champion(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold the exclusive right to move the champion of `name`, after completing the moves of dead processes.

    Raises:
        ChampionMoved: other processes held the right at every try.
    """
    for _ in range(TRIES):
        tag, claim = CLAIM + uuid.uuid4().hex, {"since": f"{time.time():.3f}", **make_process_tags()}
        _set_claim(client, name, tag, claim)
        other_claims = {key: other for key, other in _read_claims(client, name).items() if key != tag}
        if all(map(_is_over, other_claims.values())):
            for other_tag, other_claim in other_claims.items():
                _end_move(client, name, other_tag, other_claim)
            claim[CHAMPION] = _find_version(client, name, CHAMPION)
            _set_claim(client, name, tag, claim)
            try:
                yield
            finally:
                _end_move(client, name, tag, claim)
            return
        client.delete_registered_model_tag(name, tag)
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))
    raise ChampionMoved(f"another process is moving the champion of {name}. Try again in a minute")


def _set_claim(client: MlflowClient, name: str, tag: str, claim: dict[str, str]) -> None:
    retry_races(partial(client.set_registered_model_tag, name, tag, json.dumps(claim)))


def _read_claims(client: MlflowClient, name: str) -> dict[str, dict[str, str]]:
    """Return the claims on the registered model by tag; a claim of an earlier release is only a time."""
    tags = client.get_registered_model(name).tags
    claims = {tag: json.loads(text) for tag, text in tags.items() if tag.startswith(CLAIM)}
    return {tag: claim if isinstance(claim, dict) else {"since": str(claim)} for tag, claim in claims.items()}


def _is_over(claim: dict[str, str]) -> bool:
    """Return True if the process of a claim is dead, or counts as dead after CLAIM_SECONDS."""
    alive = is_alive(claim)
    return time.time() - float(claim["since"]) > CLAIM_SECONDS if alive is None else not alive


def _end_move(client: MlflowClient, name: str, tag: str, claim: dict[str, str]) -> None:
    """Delete a claim; first set `previous` if the move did not reach this second alias."""
    champion, before = _find_version(client, name, CHAMPION), claim.get(CHAMPION, "")
    if before not in ("", champion) and before != _find_version(client, name, PREVIOUS):
        set_alias(client, name, PREVIOUS, before)
        client.delete_model_version_tag(name, champion, WITHDRAWN)
    client.delete_registered_model_tag(name, tag)


def _find_version(client: MlflowClient, name: str, alias: str) -> str:
    version = find_version_by_alias(client, name, alias)
    return str(version.version) if version else ""


def _add_to_history(client: MlflowClient, name: str, version: str, event: str) -> None:
    """Add an event with its time to the history of a version; drop the oldest events if it gets too long."""
    lines = read_history(client.get_model_version(name, version).tags)
    lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {' '.join(event.split())}"[:1000])
    while len("\n".join(lines)) > LONGEST_TAG:
        lines.pop(0)
    client.set_model_version_tag(name, version, HISTORY, "\n".join(lines))


def read_history(tags: dict[str, str]) -> list[str]:
    """Return the lines of a version's history, oldest first."""
    return tags.get(HISTORY, "").splitlines()


def get_user_name() -> str:
    """Return the user's name on the tracking server, else on this system; "unknown" if there is none."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user id without a name
        return "unknown"


def set_alias(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Set an alias of a registered model; retry if another process changes the model at the same time."""
    retry_races(partial(client.set_registered_model_alias, name, alias, version))
