"""Addresses of alerts, reached by apprise: Slack, PagerDuty, e-mail, a webhook and about a hundred others."""

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
"""The environment variable that holds the addresses: they contain secrets, so parameters and files must not."""

_NOTIFY_TYPES = {
    "alarm": apprise.NotifyType.WARNING,
    "fine": apprise.NotifyType.SUCCESS,
    "news": apprise.NotifyType.INFO,
}
_CRITICAL_LEVEL = 2
_ASSET = apprise.AppriseAsset(app_id="credit_default", app_desc="model monitoring", app_url="")


class AddressUnknown(StepError):
    """Apprise does not know an address."""


class NotDelivered(StepError):
    """An alert did not reach every address."""


@dataclass(frozen=True)
class Address:
    """Address that receives messages.

    Attributes:
        id: digest of the address.
        masked: the address without its secrets.
    """

    id: str
    masked: str
    _service: apprise.NotifyBase

    def should_receive(self, event: Event) -> bool:
        """Return False for news to PagerDuty, which wakes people."""
        return not (event.state == "news" and isinstance(self._service, NotifyPagerDuty))

    def send(self, event: Event) -> bool:
        """Send an event; return True if the service accepted it."""
        if isinstance(self._service, NotifyPagerDuty) and not self._service.dedup:
            self._service.dedup = event.topic  # the all-clear closes the incident with this key
        is_critical = event.state == "alarm" and event.level >= _CRITICAL_LEVEL
        kind = apprise.NotifyType.FAILURE if is_critical else _NOTIFY_TYPES[event.state]
        sender = apprise.Apprise(asset=_ASSET)
        sender.add(self._service)
        return bool(sender.notify(body=event.body, title=event.title, notify_type=kind))


def read_addresses() -> list[Address]:
    """Return the addresses in DRIFT_ALERTS, which are separated by white space.

    Raises:
        AddressUnknown: apprise does not know an address; the message shows its scheme only.
    """
    logging.getLogger("apprise").setLevel(logging.ERROR)
    return [_parse_address(number, text) for number, text in enumerate(os.environ.get(VARIABLE, "").split(), start=1)]


def _parse_address(number: int, text: str) -> Address:
    service = apprise.Apprise.instantiate(text, asset=_ASSET, suppress_exceptions=True)
    if service is None:
        scheme = match[0] if (match := re.match(r"\w+://", text)) else "no scheme"
        raise AddressUnknown(
            f"{VARIABLE}: apprise does not know address {number} ({scheme}...). Examples: json://HOST/PATH, "
            "slack://TOKEN/TOKEN/TOKEN, pagerduty://INTEGRATION_KEY@API_KEY."
        )
    if isinstance(service, NotifyPagerDuty) and "action=" not in text:
        service.action = PagerDutyAction.MAP
    masked = str(service.url(privacy=True)).partition("?")[0]
    return Address(hashlib.sha256(text.encode()).hexdigest()[:16], masked, service)
