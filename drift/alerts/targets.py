"""Send a message to apprise's addresses: Slack, PagerDuty, e-mail, a plain webhook and a hundred others."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass

import apprise
from apprise.plugins.pagerduty import NotifyPagerDuty, PagerDutyAction

from drift.alerts.dedup import Event
from stepkit.errors import StepError

VARIABLE = "DRIFT_ALERTS"
"""The variable with the addresses: they hold secrets, so they are no parameter and in no file."""

_NOTIFY_TYPES = {
    "alarm": apprise.NotifyType.WARNING,
    "fine": apprise.NotifyType.SUCCESS,
    "news": apprise.NotifyType.INFO,
}
_CRITICAL_LEVEL = 2
_ASSET = apprise.AppriseAsset(app_id="credit_default", app_desc="model monitoring", app_url="")


class AddressUnknown(StepError):
    """An address of an alert is none that apprise knows."""


class NotDelivered(StepError):
    """An alert did not reach every address."""


@dataclass(frozen=True)
class Address:
    """One place that messages go to.

    Attributes:
        id: a digest of the address, the same for the same place.
        shown: the address with its secrets masked.
    """

    id: str
    masked: str
    _service: apprise.NotifyBase

    def should_receive(self, event: Event) -> bool:
        """Return whether an event is meant for this place: PagerDuty wakes people, and not for news."""
        return not (event.state == "news" and isinstance(self._service, NotifyPagerDuty))

    def send(self, event: Event) -> bool:
        """Send an event; return whether it was taken."""
        if isinstance(self._service, NotifyPagerDuty) and not self._service.dedup:
            self._service.dedup = event.topic  # by this the message that all is well again ends the incident
        grave = event.state == "alarm" and event.level >= _CRITICAL_LEVEL
        kind = apprise.NotifyType.FAILURE if grave else _NOTIFY_TYPES[event.state]
        one = apprise.Apprise(asset=_ASSET)
        one.add(self._service)
        return bool(one.notify(body=event.body, title=event.title, notify_type=kind))


def read_addresses() -> list[Address]:
    """Return the addresses in DRIFT_ALERTS, separated by white space; none if it is empty.

    Raises:
        AddressUnknown: one of them is none; only its scheme is shown.
    """
    logging.getLogger("apprise").setLevel(logging.ERROR)
    return [_parse_address(number, text) for number, text in enumerate(os.environ.get(VARIABLE, "").split(), start=1)]


def _parse_address(number: int, text: str) -> Address:
    service = apprise.Apprise.instantiate(text, asset=_ASSET, suppress_exceptions=True)
    if service is None:
        scheme = match[0] if (match := re.match(r"\w+://", text)) else "no scheme"
        raise AddressUnknown(
            f"address {number} of {VARIABLE} ({scheme}...) is none that apprise "
            "can use. It wants, for example, json://HOST/PATH, slack://TOKEN/TOKEN/TOKEN or "
            "pagerduty://INTEGRATION_KEY@API_KEY."
        )
    if isinstance(service, NotifyPagerDuty) and "action=" not in text:
        service.action = PagerDutyAction.MAP
    shown = str(service.url(privacy=True)).partition("?")[0]
    return Address(hashlib.sha256(text.encode()).hexdigest()[:16], shown, service)
