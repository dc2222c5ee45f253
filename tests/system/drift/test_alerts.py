"""Alerts that really arrive: a plain webhook, Slack and PagerDuty as apprise speaks to them."""

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

Tell = Callable[..., str]


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
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Tell an event to some addresses; return what was printed, with the exit status if that is not 0."""
    monkeypatch.setenv("DRIFT_ALERTS_JOURNAL", f"sqlite:///{tmp_path / 'alerts.db'}")

    def call(facts: dict[str, Any], *to: str, kind: str = "window") -> str:
        monkeypatch.setenv("DRIFT_ALERTS", " ".join(to))
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"kind": kind, "facts": facts, "links": LINKS})))
        status: object = ""
        try:
            main([])
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        return f"{said.out}{said.err}{status}"

    return call


def test_a_webhook_gets_the_message_once_however_often_the_task_runs(receiver: Receiver, tell: Tell) -> None:
    assert "delivered" in tell(make_result(), receiver.address)
    assert "told before" in tell(make_result(), receiver.address)
    (message,) = receiver.received
    assert message["title"] == "Drift: credit_default version 3, look at it"
    assert message["type"] == "warning"
    for words in ("LIMIT_BAL: ks 0.2314", "http://mlflow:5000/#/experiments/7/runs/", "http://airflow:8080/run"):
        assert words in message["message"]


def test_the_end_of_the_drift_is_told(receiver: Receiver, tell: Tell) -> None:
    for one in (
        make_result("nothing", day=1, alarm=False),
        make_result("alert", day=2),
        make_result("nothing", day=3),
        make_result("retrain", day=4),
        make_result("nothing", day=5, alarm=False),
        make_result("nothing", day=6, alarm=False),
    ):
        tell(one, receiver.address)
    assert receiver.list_titles() == [
        "Drift: credit_default version 3, look at it",
        "Drift: credit_default version 3, retraining begins",
        "No more drift: credit_default version 3",
    ]
    assert [one["type"] for one in receiver.received] == ["warning", "failure", "success"]


def test_a_failure_that_goes_on_is_told_once_until_it_is_mended(receiver: Receiver, tell: Tell) -> None:
    failed = {"dag": "drift_monitoring", "task": "report", "try": 4, "error": "no tracking server"}
    works = {"dag": "drift_monitoring"}
    story: list[tuple[str, dict[str, Any]]] = [("failure", failed), ("failure", failed), ("success", works)]
    for hour, (kind, facts) in enumerate(story):
        tell({**facts, "dag_run": f"r{hour}", "at": f"2026-11-24T1{hour}:00:00Z"}, receiver.address, kind=kind)
    assert receiver.list_titles() == ["drift_monitoring failed: report", "drift_monitoring works again"]


def test_a_second_try_goes_only_where_the_first_did_not_arrive(receiver: Receiver, tell: Tell) -> None:
    with Receiver() as down:
        down.refusing = True
        first = tell(make_result(), receiver.address, down.address)
        assert "NotDelivered: 1 of 2 addresses" in first
        assert first.endswith("1")
        down.refusing = False
        assert "delivered" in tell(make_result(), receiver.address, down.address)
        assert (len(receiver.received), len(down.received)) == (1, 1)


def test_slack_gets_its_payload_and_its_secret_is_neither_printed_nor_kept(
    services: Services, tell: Tell, tmp_path: Path
) -> None:
    said = tell(make_result(), SLACK)
    assert "delivered" in said
    (post,) = services.list_posts("hooks.slack.com")
    assert post.path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7xx"
    (attachment,) = post.body["attachments"]
    assert attachment["title"] == "Drift: credit_default version 3, look at it"
    assert "LIMIT_BAL: ks 0.2314" in attachment["text"]
    assert "TIiajkdnlazkcOXrIdevi7xx" not in said
    assert b"TIiajkdnlazkcOXrIdevi7xx" not in (tmp_path / "alerts.db").read_bytes()


def test_pagerduty_gets_an_incident_and_its_end(services: Services, tell: Tell) -> None:
    tell(make_result("retrain", day=1), PAGERDUTY)
    tell(make_result("nothing", day=2, alarm=False), PAGERDUTY)
    began, ended = services.list_posts("events.pagerduty.com")
    assert began.path == "/v2/enqueue"
    assert began.body["event_action"] == "trigger"
    assert began.body["payload"]["severity"] == "critical"
    assert "Drift: credit_default version 3" in began.body["payload"]["summary"]
    assert ended.body["event_action"] == "resolve"
    assert ended.body["dedup_key"] == began.body["dedup_key"] == "drift of credit_default"


def test_without_an_address_the_message_is_printed_and_told_to_the_first_that_is_named(
    receiver: Receiver, tell: Tell
) -> None:
    said = tell(make_result())
    assert "LIMIT_BAL" in said
    assert "nobody is told" in said
    assert "delivered" in tell(make_result(), receiver.address)


@pytest.mark.parametrize(
    ("address", "journal", "message"),
    [
        ("nonsense://hook-with-a-secret", "", "AddressUnknown: address 1 of DRIFT_ALERTS"),
        ("hook-with-a-secret", "", "AddressUnknown: address 1 of DRIFT_ALERTS"),
        ("json://127.0.0.1:1/", "sqlite:////nowhere/at/all/alerts.db", "JournalUnusable"),
    ],
)
def test_an_address_or_a_journal_that_cannot_be_used_is_one_message_without_secrets(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, address: str, journal: str, message: str
) -> None:
    if journal:
        monkeypatch.setenv("DRIFT_ALERTS_JOURNAL", journal)
    said = tell(make_result(), address)
    assert message in said
    assert "hook-with-a-secret" not in said
    assert said.endswith("1")


def test_the_command_as_a_scheduler_calls_it(receiver: Receiver, tmp_path: Path) -> None:
    event = json.dumps({"kind": "window", "facts": make_result()})
    ended = run_command(
        "bash", "-c", f"echo '{event}' | python -P -m drift.alerts.run", PYTHONPATH=".", DRIFT_ALERTS=receiver.address,
        DRIFT_ALERTS_JOURNAL=f"sqlite:///{tmp_path / 'alerts.db'}",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "delivered" in ended.stdout
    assert len(receiver.received) == 1
