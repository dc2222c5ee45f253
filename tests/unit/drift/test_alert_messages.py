"""What a message says."""

from __future__ import annotations

import json

import pytest

from drift.alerts.messages import Links, build_failure_event, build_success_event, build_window_event
from drift.alerts.run import parse_event
from stepkit.errors import BadParameter
from tests.support.drift_results import make_result

SERVER = Links("http://user:secret@mlflow:5000/", "http://airflow:8080/dags/x")


def test_an_alarm_says_what_drifted_by_how_much_and_where_to_look() -> None:
    event = build_window_event(make_result(), SERVER)
    assert event.title == "Drift: credit_default version 3, look at it"
    assert event.body.splitlines() == [
        "2 columns drifted (share 0.087). Window 2026-11-01 00:00 UTC to 2026-11-02 00:00 UTC, 2,000 rows.",
        "- LIMIT_BAL: ks 0.2314 (threshold 0.03)",
        "- AGE: ks 0.1 (threshold 0.03)",
        "- signal drift_share: 0.087 (threshold 0)",
        "Why: drift_share. No retraining yet",
        f"Report: http://mlflow:5000/#/experiments/7/runs/{'d' * 32}/artifacts/drift_report.html",
        f"Run: http://mlflow:5000/#/experiments/7/runs/{'d' * 32}",
        "DAG run: http://airflow:8080/dags/x",
    ]


def test_runs_in_a_file_are_named_with_the_command_that_shows_them() -> None:
    body = build_window_event(make_result(), Links("sqlite:////somewhere/mlflow.db")).body
    assert f"Run: run {'d' * 32} (make ui)" in body
    assert "somewhere" not in body


def test_many_columns_are_named_in_part() -> None:
    one = make_result()["drifted"][0]
    body = build_window_event(make_result(drifted=[one] * 11), Links()).body
    assert body.count("LIMIT_BAL") == 8
    assert "- and 3 more" in body


def test_a_retraining_is_a_graver_alarm_than_an_alert() -> None:
    asked, told = build_window_event(make_result("retrain"), Links()), build_window_event(make_result(), Links())
    assert asked.level > told.level
    assert "retraining begins" in asked.title


def test_a_quiet_window_ends_an_alarm_and_one_held_back_by_the_policy_or_not_judged_does_not() -> None:
    assert build_window_event(make_result("nothing") | {"signals": {}}, Links()).state == "silent"
    assert build_window_event(make_result("nothing", alarm=False), Links()).state == "fine"
    assert build_window_event(make_result("nothing", alarm=True), Links()).state == "silent"


def test_a_failure_says_which_task_and_with_what_words() -> None:
    facts = {"dag": "drift_monitoring", "task": "report", "dag_run": "r1", "try": 4, "error": "TrackingUnreachable: x"}
    event = build_failure_event({**facts, "at": "2026-11-24T12:00:00Z"}, SERVER)
    assert event.title == "drift_monitoring failed: report"
    assert "try 4" in event.body
    assert "TrackingUnreachable: x" in event.body
    assert "http://airflow:8080/dags/x" in event.body
    works = build_success_event({"dag": "drift_monitoring", "dag_run": "r2", "at": "2026-11-24T13:00:00Z"}, SERVER)
    assert (works.topic, works.state) == (event.topic, "fine")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "no JSON"),
        ('{"kind": "rumour", "facts": {}}', "rumour"),
        ('{"kind": "window", "facts": {}}', "model"),
        (json.dumps({"kind": "success", "facts": {"dag": "d", "dag_run": "r", "at": "noon"}}), "noon"),
    ],
)
def test_an_event_that_cannot_be_read_is_named(text: str, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        parse_event(text)
