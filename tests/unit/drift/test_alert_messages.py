"""Text of the alert messages."""

from __future__ import annotations

import json

import pytest

from drift.alerts.messages import Links, build_failure_event, build_success_event, build_window_event
from drift.alerts.run import parse_event
from stepkit.errors import BadParameter
from tests.support.drift_results import make_result

SERVER = Links("http://user:secret@mlflow:5000/", "http://airflow:8080/dags/x")


def test_an_alarm_names_the_drifted_columns_their_scores_and_the_links() -> None:
    event = build_window_event(make_result(), SERVER)
    assert event.title == "Drift: credit_default version 3, check the report"
    assert event.body.splitlines() == [
        "Drifted columns: 2 (share 0.087). Window: 2026-11-01 00:00 UTC to 2026-11-02 00:00 UTC, 2,000 rows.",
        "- LIMIT_BAL: ks 0.2314 (threshold 0.03)",
        "- AGE: ks 0.1 (threshold 0.03)",
        "- signal drift_share: 0.087 (threshold 0)",
        "Reason: drift_share. No retraining yet",
        f"Report: http://mlflow:5000/#/experiments/7/runs/{'d' * 32}/artifacts/drift_report.html",
        f"Run: http://mlflow:5000/#/experiments/7/runs/{'d' * 32}",
        "DAG run: http://airflow:8080/dags/x",
    ]


def test_a_run_in_a_database_file_comes_with_the_command_that_shows_it() -> None:
    body = build_window_event(make_result(), Links("sqlite:////somewhere/mlflow.db")).body
    assert f"Run: run {'d' * 32} (make ui)" in body
    assert "somewhere" not in body


def test_a_signal_names_its_columns_with_their_shares_and_the_next_command() -> None:
    signals = {
        "missing": {"value": 0.165, "threshold": 0.01, "alarm": True, "columns": ["AGE", "SEX"]},
        "group_approval": {"value": 0.8, "threshold": 0.94, "alarm": True, "groups": ["Sex: female"]},
    }
    quality = [{"rule": "missing", "column": "AGE", "reference": 0.002, "current": 0.167}]
    column = {**make_result()["drifted"][0], "change": "median 140,000 -> 168,000"}
    facts = {"signals": signals, "quality": quality, "drifted": [column], "next": ["make drift"]}
    lines = build_window_event(make_result() | facts, Links()).body.splitlines()
    assert "- LIMIT_BAL: median 140,000 -> 168,000, ks 0.2314 (threshold 0.03)" in lines
    assert "- signal missing: 0.165 (threshold 0.01), AGE 0.2% -> 16.7%, SEX" in lines
    assert "- signal group_approval: 0.8 (threshold 0.94), Sex: female" in lines
    assert lines[-1] == "Next: make drift"


def test_a_message_names_at_most_eight_columns() -> None:
    column = make_result()["drifted"][0]
    body = build_window_event(make_result(drifted=[column] * 11), Links()).body
    assert body.count("LIMIT_BAL") == 8
    assert "- and 3 more" in body


def test_a_retraining_is_a_more_severe_alarm_than_an_alert() -> None:
    retraining, alert = build_window_event(make_result("retrain"), Links()), build_window_event(make_result(), Links())
    assert retraining.level > alert.level
    assert "retraining requested" in retraining.title


def test_only_a_judged_window_without_alarms_clears_an_alarm() -> None:
    assert build_window_event(make_result("nothing") | {"signals": {}}, Links()).state == "silent"
    assert build_window_event(make_result("nothing", alarm=False), Links()).state == "fine"
    assert build_window_event(make_result("nothing", alarm=True), Links()).state == "silent"


def test_a_failure_names_the_task_and_its_error() -> None:
    facts = {"dag": "drift_monitoring", "task": "report", "dag_run": "r1", "try": 4, "error": "TrackingUnreachable: x"}
    failure = build_failure_event({**facts, "at": "2026-11-24T12:00:00Z"}, SERVER)
    assert failure.title == "drift_monitoring: task report failed"
    assert "try 4" in failure.body
    assert "TrackingUnreachable: x" in failure.body
    assert "http://airflow:8080/dags/x" in failure.body
    success = build_success_event({"dag": "drift_monitoring", "dag_run": "r2", "at": "2026-11-24T13:00:00Z"}, SERVER)
    assert (success.topic, success.state) == (failure.topic, "fine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not JSON"),
        ('{"kind": "rumour", "facts": {}}', "rumour"),
        ('{"kind": "window", "facts": {}}', "model"),
        (json.dumps({"kind": "success", "facts": {"dag": "d", "dag_run": "r", "at": "noon"}}), "noon"),
    ],
)
def test_an_unreadable_event_is_rejected_by_name(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        parse_event(text)
