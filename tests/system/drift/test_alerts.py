"""Alerts received by a webhook, Slack and PagerDuty, as apprise sends them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drift.alerts.run import main
from loop.webhook_receiver import Receiver
from tests.conftest import run_command
from tests.support.alert_receivers import Services, run_alert_services
from tests.support.drift_results import make_result

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7xx/"
PAGERDUTY = f"pagerduty://{'i' * 32}@{'a' * 20}/"
LINKS = {"tracking": "http://mlflow:5000", "airflow": "http://airflow:8080/run"}

Send = Callable[..., str]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    with run_alert_services(tmp_path) as started:
        for name, value in started.env.items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture
def send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Send:
    """Send an event to addresses; return the output, followed by the exit status if it is not 0."""
    monkeypatch.setenv("DRIFT_ALERTS_JOURNAL", f"sqlite:///{tmp_path / 'alerts.db'}")

    def call(facts: dict[str, Any], *addresses: str, kind: str = "window") -> str:
        monkeypatch.setenv("DRIFT_ALERTS", " ".join(addresses))
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"kind": kind, "facts": facts, "links": LINKS})))
        status: object = ""
        try:
            main([])
        except SystemExit as ended:
            status = ended.code
        output = capsys.readouterr()
        return f"{output.out}{output.err}{status}"

    return call


def test_a_webhook_gets_the_message_once_even_if_the_task_runs_again(receiver: Receiver, send: Send) -> None:
    assert "delivered" in send(make_result(), receiver.address)
    assert "skipped: already sent" in send(make_result(), receiver.address)
    (message,) = receiver.received
    assert message["title"] == "Drift: credit_default version 3, check the report"
    assert message["type"] == "warning"
    for text in ("LIMIT_BAL: ks 0.2314", "http://mlflow:5000/#/experiments/7/runs/", "http://airflow:8080/run"):
        assert text in message["message"]


def test_the_end_of_drift_sends_an_all_clear(receiver: Receiver, send: Send) -> None:
    for window in (
        make_result("nothing", day=1, alarm=False),
        make_result("alert", day=2),
        make_result("nothing", day=3),
        make_result("retrain", day=4),
        make_result("nothing", day=5, alarm=False),
        make_result("nothing", day=6, alarm=False),
    ):
        send(window, receiver.address)
    assert receiver.list_titles() == [
        "Drift: credit_default version 3, check the report",
        "Drift: credit_default version 3, retraining requested",
        "Drift cleared: credit_default version 3",
    ]
    assert [message["type"] for message in receiver.received] == ["warning", "failure", "success"]


def test_an_ongoing_failure_is_sent_once_until_it_is_corrected(receiver: Receiver, send: Send) -> None:
    failure = {"dag": "drift_monitoring", "task": "report", "try": 4, "error": "no tracking server"}
    success = {"dag": "drift_monitoring"}
    story: list[tuple[str, dict[str, Any]]] = [("failure", failure), ("failure", failure), ("success", success)]
    for hour, (kind, facts) in enumerate(story):
        send({**facts, "dag_run": f"r{hour}", "at": f"2026-11-24T1{hour}:00:00Z"}, receiver.address, kind=kind)
    assert receiver.list_titles() == ["drift_monitoring: task report failed", "drift_monitoring: recovered"]


def test_a_retry_sends_only_to_the_addresses_that_failed(receiver: Receiver, send: Send) -> None:
    with Receiver() as second:
        second.is_down = True
        first = send(make_result(), receiver.address, second.address)
        assert "NotDelivered: DRIFT_ALERTS: not delivered to 1 of 2 addresses" in first
        assert first.endswith("1")
        second.is_down = False
        assert "delivered" in send(make_result(), receiver.address, second.address)
        assert (len(receiver.received), len(second.received)) == (1, 1)


def test_slack_gets_its_payload_and_its_secret_is_neither_printed_nor_stored(
    services: Services, send: Send, tmp_path: Path
) -> None:
    output = send(make_result(), SLACK)
    assert "delivered" in output
    (post,) = services.list_posts("hooks.slack.com")
    assert post.path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7xx"
    (attachment,) = post.body["attachments"]
    assert attachment["title"] == "Drift: credit_default version 3, check the report"
    assert "LIMIT_BAL: ks 0.2314" in attachment["text"]
    assert "TIiajkdnlazkcOXrIdevi7xx" not in output
    assert b"TIiajkdnlazkcOXrIdevi7xx" not in (tmp_path / "alerts.db").read_bytes()


def test_pagerduty_opens_and_closes_an_incident(services: Services, send: Send) -> None:
    send(make_result("retrain", day=1), PAGERDUTY)
    send(make_result("nothing", day=2, alarm=False), PAGERDUTY)
    trigger, resolve = services.list_posts("events.pagerduty.com")
    assert trigger.path == "/v2/enqueue"
    assert trigger.body["event_action"] == "trigger"
    assert trigger.body["payload"]["severity"] == "critical"
    assert "Drift: credit_default version 3" in trigger.body["payload"]["summary"]
    assert resolve.body["event_action"] == "resolve"
    assert resolve.body["dedup_key"] == trigger.body["dedup_key"] == "drift of credit_default"


def test_without_an_address_the_message_is_printed_and_can_be_sent_later(receiver: Receiver, send: Send) -> None:
    output = send(make_result())
    assert "LIMIT_BAL" in output
    assert "no alert sent: DRIFT_ALERTS is empty" in output
    assert "delivered" in send(make_result(), receiver.address)


@pytest.mark.parametrize(
    ("address", "journal", "message"),
    [
        ("nonsense://hook-with-a-secret", "", "AddressUnknown: DRIFT_ALERTS: apprise does not know address 1"),
        ("hook-with-a-secret", "", "AddressUnknown: DRIFT_ALERTS: apprise does not know address 1"),
        ("json://127.0.0.1:1/", "sqlite:////nowhere/at/all/alerts.db", "JournalUnusable: DRIFT_ALERTS_JOURNAL: "),
    ],
)
def test_an_invalid_address_or_journal_gives_one_message_without_secrets(
    send: Send, monkeypatch: pytest.MonkeyPatch, address: str, journal: str, message: str
) -> None:
    if journal:
        monkeypatch.setenv("DRIFT_ALERTS_JOURNAL", journal)
    output = send(make_result(), address)
    assert message in output
    assert "hook-with-a-secret" not in output
    assert output.endswith("1")


def test_a_scheduler_can_call_the_command(receiver: Receiver, tmp_path: Path) -> None:
    event = json.dumps({"kind": "window", "facts": make_result()})
    ended = run_command(
        "bash", "-c", f"echo '{event}' | python -P -m drift.alerts.run", PYTHONPATH=".", DRIFT_ALERTS=receiver.address,
        DRIFT_ALERTS_JOURNAL=f"sqlite:///{tmp_path / 'alerts.db'}",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "delivered" in ended.stdout
    assert len(receiver.received) == 1
