"""Tell what happened to whom it concerns: an event as JSON on standard input -> messages, and what became of them.

    echo '{"kind": "window", "facts": {...}}' | DRIFT_ALERTS=json://localhost:8080 python -P -m drift.alerts.run

Exit status 0 if every address that was to be told was reached, or none is configured; else 1. Nothing of Airflow is
needed: any scheduler can call it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from drift.alerts import messages
from drift.alerts.dedup import Event, why_silent
from drift.alerts.messages import Links
from drift.alerts.sent_log import DEFAULT_URL, Journal, journal_at
from drift.alerts.targets import VARIABLE, Address, NotDelivered, addresses
from stepkit.errors import BadParameter
from stepkit.step.exit import one_message
from stepkit.step.flags import Parser

JOURNAL_VARIABLE = "DRIFT_ALERTS_JOURNAL"
DEFAULT_COOLDOWN_HOURS = 6.0

KINDS: dict[str, Callable[[Mapping[str, Any], Links], Event]] = {
    "window": messages.of_window,
    "failure": messages.of_failure,
    "success": messages.of_success,
    "retraining": messages.of_retraining,
}


def tell(event: Event, to: list[Address], journal: Journal, now: datetime, cooldown: timedelta) -> dict[str, str]:
    """Tell an event to each address that is to know; return what became of it, by address.

    What was delivered is noted at once, so that a second try goes only where the first did not arrive.
    """
    outcome: dict[str, str] = {}
    for address in to:
        why = why_silent(event, journal.told(event.topic, address.id), now, cooldown)
        if not why and not address.takes(event):
            why = "no news for this kind of address"
        if why:
            outcome[address.shown] = f"silent: {why}"
        elif address.send(event):
            journal.note(event, address.id, now)
            outcome[address.shown] = "delivered"
        else:
            outcome[address.shown] = "NOT delivered"
    return outcome


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cooldown_hours",
        type=float,
        default=DEFAULT_COOLDOWN_HOURS,
        help="a failure that goes on is told again after",
    )
    args = parser.parse_args(argv)
    with one_message():
        _tell_all(sys.stdin.read(), timedelta(hours=args.cooldown_hours))


def _tell_all(text: str, cooldown: timedelta) -> None:
    event = event_of(text)
    if event.state == "silent":
        print("nothing to tell")
        return
    print(f"{event.title}\n{event.body}\n")
    to = addresses()
    if not to:
        print(f"nobody is told: {VARIABLE} names no address")
        return
    with journal_at(os.environ.get(JOURNAL_VARIABLE) or DEFAULT_URL) as journal:
        outcome = tell(event, to, journal, datetime.now(UTC), cooldown)
    for shown, what in outcome.items():
        print(f"{shown}  {what}")
    if missed := [shown for shown, what in outcome.items() if what == "NOT delivered"]:
        raise NotDelivered(f"{len(missed)} of {len(to)} addresses did not take the message: {', '.join(missed)}")


def event_of(text: str) -> Event:
    """The event that a JSON text describes: its kind, the facts of it, and links.

    Raises:
        BadParameter: no JSON, an unknown kind, or a fact that is missing.
    """
    try:
        told = json.loads(text)
        return KINDS[told["kind"]](told["facts"], Links(**told.get("links", {})))
    except json.JSONDecodeError as error:
        raise BadParameter(f"the event on standard input is no JSON: {error}") from error
    except (KeyError, TypeError) as error:
        raise BadParameter(f"the event lacks or misnames {error}; kinds: {', '.join(KINDS)}") from error


if __name__ == "__main__":
    main()
