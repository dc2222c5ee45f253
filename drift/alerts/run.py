"""Send a message about an event, described as JSON on standard input, to whom it concerns.

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
from drift.alerts.dedup import Event, explain_silence
from drift.alerts.messages import Links
from drift.alerts.sent_log import DEFAULT_URL, Journal, open_journal
from drift.alerts.targets import VARIABLE, Address, NotDelivered, read_addresses
from stepkit.errors import BadParameter
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser

JOURNAL_VARIABLE = "DRIFT_ALERTS_JOURNAL"
DEFAULT_COOLDOWN_HOURS = 6.0
NOT_DELIVERED = "NOT delivered"

KINDS: dict[str, Callable[[Mapping[str, Any], Links], Event]] = {
    "window": messages.build_window_event,
    "failure": messages.build_failure_event,
    "success": messages.build_success_event,
    "retraining": messages.build_retraining_event,
}


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cooldown_hours",
        type=float,
        default=DEFAULT_COOLDOWN_HOURS,
        help="a failure that goes on is told again after",
    )
    args = parser.parse_args(argv)
    with exit_on_error():
        publish_event(parse_event(sys.stdin.read()), timedelta(hours=args.cooldown_hours))


def publish_event(event: Event, cooldown: timedelta) -> None:
    """Print an event, send it to each address that is to know, and print what became of it.

    Raises:
        NotDelivered: an address did not take it.
    """
    if event.state == "silent":
        print("nothing to tell")
        return
    print(f"{event.title}\n{event.body}\n")
    to = read_addresses()
    if not to:
        print(f"nobody is told: {VARIABLE} names no address")
        return
    with open_journal(os.environ.get(JOURNAL_VARIABLE) or DEFAULT_URL) as journal:
        outcomes = {address.masked: send_to_address(event, address, journal, cooldown) for address in to}
    for shown, outcome in outcomes.items():
        print(f"{shown}  {outcome}")
    if missed := [shown for shown, outcome in outcomes.items() if outcome == NOT_DELIVERED]:
        raise NotDelivered(f"{len(missed)} of {len(to)} addresses did not take the message: {', '.join(missed)}")


def send_to_address(event: Event, address: Address, journal: Journal, cooldown: timedelta) -> str:
    """Send an event to an address, unless there is a reason not to; return what became of it.

    A delivery is noted at once, so that a second try goes only where the first did not arrive.
    """
    now = datetime.now(UTC)
    why = explain_silence(event, journal.list_messages(event.topic, address.id), now, cooldown)
    if not why and not address.should_receive(event):
        why = "no news for this kind of address"
    if why:
        return f"silent: {why}"
    if not address.send(event):
        return NOT_DELIVERED
    journal.record_message(event, address.id, now)
    return "delivered"


def parse_event(text: str) -> Event:
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
