"""Predictions that the scorer records, their request ids, and its behaviour without a usable prediction log."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from tests.conftest import run_command
from tests.support.prediction_logs import count_ids
from tests.support.restartable_postgres import start_postgres_to_stop, stop_for_a_while
from tests.support.scoring_requests import CSV, to_csv, to_inputs, to_instances, to_records, to_split
from tests.support.scoring_servers import Server, read_logged_rows, read_metric, start_scorer
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion


@pytest.mark.parametrize("encode", [to_split, to_records, to_instances, to_inputs, to_csv])
def test_the_log_holds_what_was_asked_and_what_was_answered(trained: Champion, running: Server, encode: Any) -> None:
    rows = [{**trained.row, "AGE": None}, {**trained.row, "SEX": 99.0}]
    table = encode(rows)
    body = table.encode() if isinstance(table, str) else json.dumps(table).encode()
    response = running.post("/invocations", body, CSV if isinstance(table, str) else "application/json")
    logged = read_logged_rows(running.folder, response.headers["X-Request-Id"])
    assert [{"probability": row.probability, "class": row.predicted} for row in logged.itertuples()] == (
        response.json()["predictions"]
    )
    assert set(logged["model_version"]) == {response.headers["X-Model-Version"]}
    inputs = logged[list(trained.row)].astype(float)
    pd.testing.assert_frame_equal(inputs, pd.DataFrame(rows).astype(float), check_names=False)


def test_a_request_id_is_kept_if_it_is_well_formed(trained: Champion, running: Server) -> None:
    good = running.score(trained.split(), **{"X-Request-Id": "order-4711.a"})
    assert good.headers["X-Request-Id"] == "order-4711.a"
    assert len(read_logged_rows(running.folder, "order-4711.a")) == 1
    for wrong in ("x" * 201, "caf\u00e9", "a\tb"):
        bad = running.score(trained.split(), **{"X-Request-Id": wrong})
        assert bad.ok
        assert len(read_logged_rows(running.folder, bad.headers["X-Request-Id"])) == 1
        assert bad.headers["X-Request-Id"] != wrong


def test_an_id_that_stands_on_record_with_other_rows_is_refused(trained: Champion, running: Server) -> None:
    same_id = {"X-Request-Id": "sent-twice"}
    assert [running.score(trained.split(), **same_id).status_code for _ in range(2)] == [200, 200]
    conflict = running.score(to_split([{**trained.row, "AGE": 77.0}]), **same_id)
    assert (conflict.status_code, conflict.json()["field"]) == (409, "X-Request-Id")


def test_feedback_is_taken_once_and_only_for_what_was_answered(trained: Champion, running: Server) -> None:
    request_id = running.score(trained.split()).headers["X-Request-Id"]

    def label(**fields: Any) -> requests.Response:
        return running.post("/feedback", json.dumps({"request_id": request_id, "label": 1, **fields}).encode())

    assert [label().json()["result"] for _ in range(2)] == ["new", "repeated"]
    assert label(label=0).json()["result"] == "changed"
    assert label(row=1).status_code == label(request_id="unknown").status_code == 404
    for field, wrong in (("label", 2), ("row", -1)):
        rejected = label(**{field: wrong})
        assert (rejected.status_code, rejected.json()["field"]) == (400, field)


def test_feedback_is_taken_only_as_json(trained: Champion, running: Server) -> None:
    request_id = running.score(trained.split()).headers["X-Request-Id"]
    body = json.dumps({"request_id": request_id, "label": 1}).encode()
    for kind in ("text/plain", "text/csv", None, "application/json; charset=latin-1"):
        rejected = running.post("/feedback", body, kind)
        assert (rejected.status_code, rejected.json()["field"]) == (415, "Content-Type")
    accepted = running.post("/feedback", body, 'Application/JSON ;charset="UTF-8"')
    assert accepted.json()["result"] == "new", "the refused ones are not on record"


def test_fields_of_a_trailer_are_not_headers(trained: Champion, running: Server) -> None:
    body = json.dumps(trained.split()).encode()
    trailer = b"Content-Type: application/json\r\nX-Request-Id: of-the-trailer\r\n"
    for head, status in ((b"", b"415"), (b"Content-Type: application/json\r\n", b"200")):
        with running.connect() as client:
            start = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + head
            client.sendall(start + b"\r\n%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailer))
            assert client.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert read_logged_rows(running.folder, "of-the-trailer").empty


def test_each_request_leaves_one_line_without_its_values(trained: Champion, running: Server) -> None:
    request_id = running.score(to_split([{**trained.row, "AGE": 123456.5}])).headers["X-Request-Id"]
    wait_until(lambda: any(line["request_id"] == request_id for line in running.events("request")), "the line", 10)
    (line,) = [line for line in running.events("request") if line["request_id"] == request_id]
    assert (line["status"], line["rows"], line["path"]) == (200, 1, "/invocations")
    assert "123456.5" not in running.output.read_text()


def test_what_is_redacted_is_not_recorded(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, redact="[AGE, 'PAY_0']") as server:
        responses = {rows: server.score(trained.split(rows)) for rows in (1, 20)}
        same_id = {"X-Request-Id": "one"}
        first, second = (
            server.score(to_split([{**trained.row, "PAY_0": value}]), **same_id).status_code for value in (-1.0, 8.0)
        )
    assert (first, second) == (200, 409)
    for rows, response in responses.items():
        logged = read_logged_rows(tmp_path, response.headers["X-Request-Id"])
        assert logged[["AGE", "PAY_0"]].isna().to_numpy().all()
        assert logged["SEX"].tolist() == [trained.row["SEX"]] * rows


def test_a_model_without_a_redacted_column_is_not_served(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, redact="AGE,AEG", wait=False) as server:
        wait_until(lambda: server.has_logged("model_refused"), "the model is refused")
        assert [line["columns"] for line in server.events("redact_unknown")] == [["AEG"]]
        answer = server.score(trained.split())
        assert (answer.status_code, answer.json()["error_code"]) == (503, "NO_MODEL")
        assert "redact: the model has no column AEG" in server.health()["waiting_for"]
    assert read_logged_rows(tmp_path, answer.headers["X-Request-Id"]).empty


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("answer", 200)])
def test_without_a_log_the_policy_decides(trained: Champion, tmp_path: Path, policy: str, status: int) -> None:
    with start_scorer(tmp_path, trained.name, when_unavailable=policy) as server:
        assert server.score(trained.split()).ok
        with closing(sqlite3.connect(tmp_path / "predictions.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            answer = server.score(trained.split())
            assert answer.status_code == status
            assert status == 200 or answer.json()["error_code"] == "LOG_UNAVAILABLE"
            assert "locked" in server.health()["log"]["trouble"]
        assert read_metric(server, "scorer_unrecorded_answers_total") == (status == 200)
        wait_until(lambda: server.score(trained.split()).ok, "it responds once the log is back")


def test_an_answer_that_takes_too_long_is_given_up_with_504(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, request_seconds=1) as server:
        assert server.score(trained.split()).ok
        with closing(sqlite3.connect(tmp_path / "predictions.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            late = server.score(trained.split())
        assert (late.status_code, late.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
        assert read_metric(server, 'scorer_requests_total{path="/invocations",status="504"}') == 1
        wait_until(lambda: server.score(trained.split()).ok, "it responds once the log is back")


@pytest.mark.parametrize(("address", "workers"), [("sqlite:///README.md", "1"), ("mysql://nowhere/log", "2")])
def test_a_log_that_cannot_be_is_one_line(address: str, workers: str) -> None:
    flags = ["--log_url", address, "--workers", workers, "--port", str(find_free_port())]
    ended = run_command(sys.executable, "-P", "run.py", *flags, cwd=ROOT / "serve", PYTHONPATH="..")
    assert ended.returncode == 2
    assert ended.stderr.startswith("Log")
    assert ended.stderr.count("\n") == 1


def test_a_postgresql_that_is_started_anew_loses_nothing_that_was_answered(trained: Champion, tmp_path: Path) -> None:
    with start_postgres_to_stop() as uri, start_scorer(tmp_path, trained.name, log_url=uri) as server:
        request_ids: list[str] = []
        statuses: Counter[int] = Counter()
        stop = threading.Event()

        def send_requests() -> None:
            while not stop.is_set():
                response = server.score(trained.split())
                statuses[response.status_code] += 1
                if response.ok:
                    request_ids.append(response.headers["X-Request-Id"])

        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(send_requests) for _ in range(2)]
            try:
                wait_until(lambda: len(request_ids) >= 20, "it responds")
                with stop_for_a_while(uri, signal.SIGINT):
                    wait_until(lambda: statuses[503] > 0, "it refuses requests that cannot be recorded")
                    assert "cannot be used" in server.health()["log"]["trouble"]
                before = len(request_ids)
                wait_until(lambda: len(request_ids) >= before + 20, "it recovers by itself")
            finally:
                stop.set()
            for future in futures:
                future.result()
        assert set(statuses) == {200, 503}
        assert server.health()["log"]["trouble"] == ""
        assert [len(server.events(event)) for event in ("log_gone", "log_back")] == [1, 1]
        counts = count_ids(uri)
    assert {name: counts[name] for name in request_ids if counts[name] != 1} == {}
