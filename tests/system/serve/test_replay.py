"""Replay: every answer on record is computed again by its version, and a changed record is found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from serve.audit import replay
from tests.support.scoring_servers import make_log_url, start_scorer
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion, make_clients_with_gaps

CLIENTS = 300


def run(capfd: pytest.CaptureFixture[str], folder: Path, *flags: str) -> tuple[int, str]:
    """Return the exit status and the output of a replay of the log in this folder."""
    status = 0
    try:
        replay.main([f"--log_url={make_log_url(folder)}", *flags])
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    output = capfd.readouterr()
    return status, output.out + output.err


def change_log(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "predictions.db")) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def test_answers_are_replayed_by_their_versions_and_changed_ones_are_named(
    versions: Champion, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    versions.promote("1")
    table = make_clients_with_gaps(CLIENTS, seed=8)[list(versions.row)]
    infinite = ", ".join(f'"{name}": {value}' for name, value in {**versions.row, "BILL_AMT1": "1e400"}.items())
    with start_scorer(tmp_path, versions.name) as server:
        assert server.post("/invocations", table.to_csv(index=False).encode(), "text/csv").ok
        assert server.post("/invocations", f'{{"dataframe_records": [{{{infinite}}}]}}'.encode()).ok
        versions.promote("2")
        wait_until(lambda: server.serves("2"), "the scorer serves version 2")
        assert server.score(versions.split(4), **{"X-Request-Id": "later"}).ok
    status, output = run(capfd, tmp_path, "--current=log:?from=2020-01-01")
    assert status == 0, output
    assert f"version 1: {CLIENTS + 1} equal, 0 differ" in output
    assert "version 2: 4 equal, 0 differ" in output
    assert f"{CLIENTS + 5} equal, 0 differ" in output

    change_log(tmp_path, "UPDATE predictions SET probability = probability + 0.001 WHERE request_id='later' AND row=2")
    change_log(tmp_path, "UPDATE predictions SET predicted = 1 - predicted WHERE request_id='later' AND row=3")
    status, output = run(capfd, tmp_path, "--current=log:?rows=4", f"--output={tmp_path / 'differ.csv'}")
    assert status == 1
    assert "differs: request later, row 2, version 2" in output
    assert "2 equal, 2 differ" in output
    assert (tmp_path / "differ.csv").read_text().count("later,") == 2

    versions.experiment.client.delete_model_version(versions.name, "2")
    status, output = run(capfd, tmp_path, "--current=log:?from=2020-01-01")
    assert status == 0
    assert f"not replayed: 4 answers, because version 2 of {versions.name} was deleted or does not load" in output
    assert f"{CLIENTS + 1} equal, 0 differ" in output


@pytest.mark.parametrize(
    ("flag", "message"), [("--current=log:?rows=0", "rows='0'"), ("--current=log:?from=2999-01-01", "no answers")]
)
def test_a_window_without_answers_is_an_error(
    versions: Champion, tmp_path: Path, capfd: pytest.CaptureFixture[str], flag: str, message: str
) -> None:
    versions.promote("1")
    with start_scorer(tmp_path, versions.name) as server:
        assert server.score(versions.split()).ok
    status, output = run(capfd, tmp_path, flag)
    assert status == 1
    assert message in output
