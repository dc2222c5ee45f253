"""Reasons of answers on record: by the served version, by another one, and for the rows of a file."""

from __future__ import annotations

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from serve.audit import explain, replay
from serve.http import explain as http_explain
from tests.support.scoring_servers import Server, make_log_url, start_scorer
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion, make_clients_with_gaps, register_forest


def post(server: Server, **request: Any) -> requests.Response:
    return server.post("/explain", json.dumps(request).encode())


def test_an_answer_on_record_has_the_reasons_of_the_version_that_gave_it(
    versions: Champion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.promote("1")
    request = {**versions.split(2), "params": {"reasons": 3}}
    with start_scorer(tmp_path, versions.name) as server:
        first = server.score(request, **{"X-Request-Id": "first"}).json()["predictions"][1]
        answer = post(server, request_id="first", row=1, reasons=3).json()
        assert {key: answer[key] for key in first} == first
        assert (answer["request_id"], answer["row"], answer["model_version"]) == ("first", 1, "1")
        versions.promote("2")
        wait_until(lambda: server.serves("2"), "the scorer serves version 2")
        assert server.score(request).json()["predictions"][1] != first
        assert post(server, request_id="first", row=1, reasons=3).json() == answer
        too_many = post(server, request_id="first", reasons=1000)
        assert (too_many.status_code, too_many.json()["field"]) == (400, "reasons")
        explain.main(["--request_id=first", "--row=1", "--reasons=3", f"--log_url={make_log_url(tmp_path)}"])
    printed = capsys.readouterr().out
    assert f"request first, row 1: probability {first['probability']:.4f}" in printed
    assert all(reason["column"] in printed for reason in first["reasons"])


def has_waiting_child() -> bool:
    """Return True if a child process of a scorer waits for a lock: Linux marks it with an arrow."""
    waiting = {line.split()[5] for line in Path("/proc/locks").read_text().splitlines() if "->" in line}
    return bool(waiting & {str(process.pid) for process in psutil.Process().children(recursive=True)})


def test_another_version_is_loaded_only_after_one_of_another_worker(versions: Champion, tmp_path: Path) -> None:
    versions.promote("1")
    lock = Path(http_explain.__file__)
    with start_scorer(tmp_path, versions.name) as server, ThreadPoolExecutor(1) as pool:
        assert server.score(versions.split(), **{"X-Request-Id": "first"}).ok
        versions.promote("2")
        wait_until(lambda: server.serves("2"), "the scorer serves version 2")
        with lock.open() as other_worker:
            fcntl.flock(other_worker, fcntl.LOCK_EX)
            answer = pool.submit(post, server, request_id="first")
            wait_until(lambda: has_waiting_child() or answer.done(), "the child process waits")
            assert not answer.done()
        assert answer.result(60).json()["model_version"] == "1"


def test_an_answer_that_cannot_be_explained_is_refused_with_the_reason(versions: Champion, tmp_path: Path) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name, redact="LIMIT_BAL", sample_rate=0.5) as server:
        statuses = []
        for number in range(20):
            request_id = f"request-{number}"
            assert server.score(versions.split(), **{"X-Request-Id": request_id}).ok
            response = post(server, request_id=request_id)
            statuses.append(response.status_code)
            expected = "redacted" if response.status_code == 409 else "has no row 0 of this request"
            assert expected in response.json()["message"]
            assert response.json()["field"] == "request_id"
        assert {*statuses} == {404, 409}
        assert post(server, request_id="x", row=-1).json()["field"] == "row"
        assert post(server, request_id="x", more=1).json()["field"] == "more"
        assert post(server, row=1).status_code == 400


def test_a_redacted_row_is_recognised_after_a_change_of_the_setting(
    versions: Champion, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    versions.promote("1")
    log_url = f"--log_url={make_log_url(tmp_path)}"
    row = {**versions.row, "LIMIT_BAL": None}  # so the recorded row gives the recorded probability
    with start_scorer(tmp_path, versions.name, redact="LIMIT_BAL") as server:
        assert server.score({"dataframe_records": [row, row]}, **{"X-Request-Id": "redacted"}).ok
    with pytest.raises(SystemExit) as stopped:
        explain.main(["--request_id=redacted", log_url])
    assert stopped.value.code == 1
    assert "column LIMIT_BAL is redacted" in capfd.readouterr().err
    replay.main(["--current=log:?rows=9", log_url])
    assert "not replayed: 2 answers, because column LIMIT_BAL is redacted" in capfd.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        replay.main(["--request_id=redacted", log_url, f"--output={tmp_path / 'proof.json'}"])
    assert stopped.value.code == 1
    assert "replay: not replayed, because column LIMIT_BAL is redacted" in capfd.readouterr().out
    assert json.loads((tmp_path / "proof.json").read_text())["explanation"] is None


def test_a_version_that_was_deleted_or_has_too_few_columns_is_a_conflict(versions: Champion, tmp_path: Path) -> None:
    rows = register_forest(versions.experiment, tmp_path, depth=2)
    client = versions.experiment.client
    version = max(int(item.version) for item in client.search_model_versions(f"name = '{versions.name}'"))
    versions.promote(str(version))
    with start_scorer(tmp_path, versions.name) as server:
        server.score(versions.split(), **{"X-Request-Id": "old"})
        too_many = post(server, request_id="old", reasons=len(rows.columns) + 1)
        assert (too_many.status_code, too_many.json()["field"]) == (400, "reasons")
        versions.promote("1")
        wait_until(lambda: server.serves("1"), "the scorer serves version 1")
        client.delete_model_version(versions.name, str(version))
        response = post(server, request_id="old")
        assert response.status_code == 409
        assert f"models:/{versions.name}/{version}" in response.json()["message"]


def test_explain_gives_away_nothing_without_the_key(versions: Champion, tmp_path: Path) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name, env={"SCORER_API_KEY": "secret"}) as server:
        key = {"X-API-Key": "secret"}
        server.score(versions.split(), **key, **{"X-Request-Id": "known"})
        answers = [post(server, request_id=request_id) for request_id in ("known", "unknown")]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert len({answer.json()["message"] for answer in answers}) == 1
        body = json.dumps({"request_id": "known"}).encode()
        assert server.post("/explain", body, **key).json()["probability"] > 0


def test_the_rows_of_a_file_are_explained(
    trained: Champion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_clients_with_gaps(3, seed=5)
    table.to_csv(tmp_path / "rows.csv", index=False)
    model = f"--model=models:/{trained.name}/1"
    explain.main([f"--input={tmp_path / 'rows.csv'}", model, "--format=json"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer in answers:
        listed = sum(reason["effect"] for reason in answer["reasons"])
        total = answer["baseline"] + listed + answer["protected_effect"] + answer["other"]
        assert total == pytest.approx(answer["probability"], abs=1e-6)
    assert [answer["row"] for answer in answers] == [0, 1, 2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either request_id or input"),
        (["--request_id=a", "--input=b"], "give either request_id or input"),
        (["--input=missing.csv"], "no such file"),
        (["--request_id=a", "--reasons=-1"], "whole number"),
    ],
)
def test_wrong_options_of_explain_get_one_message(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        explain.main(flags)
    assert stopped.value.code not in (0, None)
    assert message in capsys.readouterr().err
