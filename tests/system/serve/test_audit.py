"""Audit of answers on record: the answers that another version would change, and the proof of one answer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prediction_log.read import read_log
from register.models import format_models
from serve.audit import replay
from tests.support.scoring_servers import Server, make_log_url, start_scorer
from tests.support.trained_champion import Champion, make_clients_with_gaps

CLIENTS = 300


def run(folder: Path, *flags: str) -> int:
    """Return the exit status of a replay of the log in this folder."""
    try:
        replay.main([f"--log_url={make_log_url(folder)}", *flags])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def score_clients(server: Server, columns: list[str], **headers: str) -> None:
    table = make_clients_with_gaps(CLIENTS, seed=8)[columns]
    assert server.post("/invocations", table.to_csv(index=False).encode(), "text/csv", **headers).ok


def label_all(server: Server, request_id: str) -> None:
    for row in range(CLIENTS):
        body = json.dumps({"request_id": request_id, "row": row, "label": row % 2})
        assert server.post("/feedback", body.encode()).ok


def test_the_answers_that_another_version_would_change_are_counted_and_listed(
    versions: Champion, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name) as server:
        score_clients(server, list(versions.row), **{"X-Request-Id": "first"})
        label_all(server, "first")
    output = tmp_path / "changes.csv"
    assert run(tmp_path, "--current=log:?rows=1000", f"--model=models:/{versions.name}/2", f"--output={output}") == 0
    printed = capfd.readouterr().out
    swapped = pd.read_csv(output)
    log = read_log(make_log_url(tmp_path)).set_index("row").loc[swapped["row"]]
    assert swapped["swap"].eq("swap_in").tolist() == log["predicted"].eq(1).tolist()
    assert swapped["recorded_probability"].tolist() == pytest.approx(log["probability"].tolist())
    assert swapped["label"].tolist() == (swapped["row"] % 2).tolist()
    ins, outs = (swapped[swapped["swap"] == name] for name in ("swap_in", "swap_out"))
    assert len(ins) > 0
    assert f"refused that would be approved: {len(ins)}, bad rate {ins['label'].mean():.1%}" in printed
    assert f"approved that would be refused: {len(outs)}" in printed
    assert f"{versions.name} version 1: {CLIENTS}" in printed
    page = output.with_suffix(".html").read_text()
    assert "<h2>Sex</h2>" in page
    client = versions.experiment.client
    tag = client.get_model_version(versions.name, "2").tags["swap"]
    assert f"{len(ins)} refused would be approved" in tag
    assert "swap: of 300" in format_models(client, versions.name)
    metrics = client.get_run(tag.partition("(run ")[2].rstrip(")")).data.metrics
    assert (metrics["swap_in"], metrics["swap_out"]) == (len(ins), len(outs))


def test_a_version_with_a_column_that_is_not_on_record_compares_nothing(
    versions: Champion, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name) as server:
        assert server.score(versions.split(2)).ok
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database, database:
        database.execute("UPDATE predictions SET features = json_remove(features, '$.AGE') WHERE row = 0")
        database.execute("""UPDATE predictions SET features = json_set(features, '$.AGE', 'old') WHERE row = 1""")
    assert run(tmp_path, f"--model=models:/{versions.name}/2", f"--output={tmp_path / 'none.csv'}") == 1
    printed = capfd.readouterr().err
    assert "version 2 can score none of these answers" in printed
    assert "1 answer, because column AGE is not on record" in printed
    assert "because column AGE has the wrong type on record (found a text, expected a number)" in printed
    assert [*tmp_path.glob("none.*")] == []
    assert run(tmp_path) == 0
    assert "not replayed: 1 answer, because column AGE is not on record" in capfd.readouterr().out


def prove(folder: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    path = folder / "proof.json"
    path.unlink(missing_ok=True)
    status = run(folder, f"--output={path}", *flags)
    return status, json.loads(path.read_text()) if path.exists() else {}


def test_a_proof_names_everything_that_led_to_an_answer(versions: Champion, tmp_path: Path) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name) as server:
        request = {**versions.split(2), "params": {"reasons": 4}}
        answer = server.score(request, **{"X-Request-Id": "one"}).json()["predictions"][1]
        assert server.post("/feedback", b'{"request_id": "one", "row": 1, "label": 1}').ok
    status, proof = prove(tmp_path, "--request_id=one", "--row=1")
    assert status == 0
    assert proof["input"] == versions.row
    assert proof["answer"] == {"probability": answer["probability"], "class": answer["class"]}
    assert proof["explanation"]["reasons"] == answer["reasons"]
    assert (proof["replay"]["result"], proof["label"], proof["model"]["version"]) == ("equal", 1, "1")
    assert proof["explanation"]["reference_row"]["AGE"] > 0

    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database, database:
        database.execute("UPDATE predictions SET probability = probability + 0.001 WHERE row = 1")
    status, proof = prove(tmp_path, "--request_id=one", "--row=1")
    assert (status, proof["replay"]["result"], proof["explanation"]) == (1, "different", None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--request_id=absent"], "the prediction log has no row 0 of this request"),
        (["--request_id=one", "--output=proof.txt"], "not a file that ends in .json"),
        (["--request_id=one", "--output=absent/proof.json"], "its folder does not exist"),
        (["--request_id=one", "--model=models:/credit_default/1"], "give either model or request_id"),
        (["--model=models:/absent/1"], "models:/absent/1' is not in the registry"),
        (["--model=credit_default"], "not a registered model"),
    ],
)
def test_a_wrong_request_for_a_proof_or_swap_writes_nothing(
    versions: Champion, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name) as server:
        assert server.score(versions.split(), **{"X-Request-Id": "one"}).ok
    before = {path.name for path in tmp_path.iterdir()}
    assert run(tmp_path, *flags) in (1, 2)
    assert message in capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} - before <= {"predictions.db-wal", "predictions.db-shm"}
