"""Send a message about an event, given as JSON on standard input, to every address in DRIFT_ALERTS.

    echo '{"kind": "window", "facts": {...}}' | DRIFT_ALERTS=json://localhost:8080 python -P -m drift.alerts.run

The exit status is 0 if every address accepted its message or DRIFT_ALERTS is empty, else 1. The command does not need
Airflow: any scheduler can call it.
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
from drift.alerts.sent_log import DEFAULT_URL, JOURNAL_VARIABLE, Journal, open_journal
from drift.alerts.targets import VARIABLE, Address, NotDelivered, read_addresses
from stepkit.errors import BadParameter
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser

DEFAULT_COOLDOWN_HOURS = 6.0
NOT_DELIVERED = "NOT delivered"

KINDS: dict[str, Callable[[Mapping[str, Any], Links], Event]] = {
    "window": messages.build_window_event,
    "failure": messages.build_failure_event,
    "success": messages.build_success_event,
    "retraining": messages.build_retraining_event,
}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cooldown_hours",
        type=float,
        default=DEFAULT_COOLDOWN_HOURS,
        help="repeat the alert about an ongoing failure after this many hours",
    )
    args = parser.parse_args(argv)
    with exit_on_error():
        publish_event(parse_event(sys.stdin.read()), timedelta(hours=args.cooldown_hours))


def publish_event(event: Event, cooldown: timedelta) -> None:
    """Print an event, send it to the addresses in DRIFT_ALERTS, and print the outcome for each.

    Raises:
        NotDelivered: an address did not accept the message.
    """
    if event.state == "silent":
        print("no alert: nothing to report")
        return
    print(f"{event.title}\n{event.body}\n")
    addresses = read_addresses()
    if not addresses:
        print(f"no alert sent: {VARIABLE} is empty")
        return
    with open_journal(os.environ.get(JOURNAL_VARIABLE) or DEFAULT_URL) as journal:
        outcomes = {address.masked: send_to_address(event, address, journal, cooldown) for address in addresses}
    for masked, outcome in outcomes.items():
        print(f"{masked}  {outcome}")
    if missed := [masked for masked, outcome in outcomes.items() if outcome == NOT_DELIVERED]:
        raise NotDelivered(
            f"{VARIABLE}: not delivered to {len(missed)} of {len(addresses)} addresses ({', '.join(missed)}). "
            "A retry sends to these only."
        )


def send_to_address(event: Event, address: Address, journal: Journal, cooldown: timedelta) -> str:
    """Send an event to an address unless a rule forbids it; return the outcome.

    Each delivery is recorded at once, so that a retry sends only to the addresses that failed.
    """
    now = datetime.now(UTC)
    reason = explain_silence(event, journal.list_messages(event.topic, address.id), now, cooldown)
    if not reason and not address.should_receive(event):
        reason = "this kind of address gets alarms only"
    if reason:
        return f"skipped: {reason}"
    if not address.send(event):
        return NOT_DELIVERED
    journal.record_message(event, address.id, now)
    return "delivered"


def parse_event(text: str) -> Event:
    """Return the event that a JSON text describes by its `kind`, `facts` and optional `links`.

    Raises:
        BadParameter: invalid JSON, an unknown kind, or a missing fact.
    """
    try:
        event = json.loads(text)
        return KINDS[event["kind"]](event["facts"], Links(**event.get("links", {})))
    except json.JSONDecodeError as error:
        raise BadParameter(f"standard input: not JSON ({error})") from error
    except (KeyError, TypeError) as error:
        raise BadParameter(f"standard input: missing or unknown key {error} (kinds: {', '.join(KINDS)})") from error


if __name__ == "__main__":
    main()
