"""A store, two packed models and a prediction log of commit 1d1b812 still work: serve, report, drift, roll back.

The code of that commit made tests/support/store_of_1d1b812.tar.xz in /opt/credit-default: two pipelines on 1,500 rows
of the bundled sample (forests of 5 and 12 trees), `make promote` of version 2, and a scorer that scored 700 simulated
clients and REQUEST. Reports and the drift page were left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prediction_log.read import read_log
from stepkit.paths import ROOT
from tests.conftest import make_command_env
from tests.support.browser import start_browser
from tests.support.monitored_champion import COLUMNS
from tests.support.scoring_servers import Server, make_log_url, read_logged_rows, start_scorer, start_stock_server
from tests.support.servers import wait_until

PIPELINE, BASE = "921d7b2bf1124708b64e4f44fa366a87", "48b0de44dd5d4ca2a6a81e1645ada42f"
ROWS_OF_THE_LOG = 703
REQUEST = {
    "dataframe_split": {
        "columns": list(COLUMNS.names),
        "data": [
            [
                50000,
                2,
                1,
                2,
                29,
                0,
                0,
                0,
                0,
                0,
                0,
                55013,
                55764,
                56067,
                56963,
                53877,
                23727,
                3030,
                3000,
                2247,
                2100,
                0,
                1000,
            ],
            [
                20000,
                1,
                3,
                2,
                63,
                0,
                0,
                0,
                2,
                0,
                0,
                15251,
                15661,
                15433,
                16382,
                17731,
                16521,
                1500,
                1065,
                0,
                627,
                393,
                0,
            ],
            [260000, 2, 3, 1, None, -2, -2, -2, -2, -2, -2, 0, -80, 0, 268, 336, 0, 0, 0, 268, 336, 0, 0],
        ],
    }
}
ANSWERS = {
    "1": [0.40155062079429626, 0.3340572714805603, 0.4141586422920227],
    "2": [0.4151216149330139, 0.39247366786003113, 0.3586191236972809],
}
"""The probabilities of REQUEST by version, as the code of 1d1b812 answered them."""


@dataclass
class OldStore:
    """Folder with an unpacked store, and the environment for commands that use it."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "PREDICTION_LOG_URL": make_log_url(self.folder),
        }

    def run(self, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        env = make_command_env(PYTHONPATH=str(ROOT), **self.env)
        ended = subprocess.run([sys.executable, *words], cwd=cwd, env=env, text=True, capture_output=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return ended


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldStore:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ROOT / "tests" / "support" / "store_of_1d1b812.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return OldStore(folder)


@pytest.fixture(scope="module")
def server(old: OldStore) -> Iterator[Server]:
    with start_scorer(old.folder, "credit_default", env=old.env) as server:
        yield server


def read_probabilities(server: Server, request_id: str) -> Any:
    answer = server.score(REQUEST, **{"X-Request-Id": request_id})
    assert answer.ok, answer.text
    return [row["probability"] for row in answer.json()["predictions"]]


def verify_without_reasons(server: Server, request_id: str) -> None:
    answer = server.post("/explain", json.dumps({"request_id": request_id}).encode())
    assert (answer.status_code, answer.json()["error_code"]) == (409, "NOT_EXPLAINABLE")
    assert "version 2: no reference row" in answer.json()["message"]


def test_its_champion_predicts_as_before_and_its_log_continues(old: OldStore, server: Server) -> None:
    assert len(read_log(make_log_url(old.folder))) == ROWS_OF_THE_LOG
    before = read_logged_rows(old.folder, "asked-of-2")
    assert read_probabilities(server, "again") == pytest.approx(ANSWERS["2"], abs=1e-12)
    again = read_logged_rows(old.folder, "again")
    same = ["model_version", "probability", "predicted", *COLUMNS.names]
    assert again[same].equals(before[same])
    for request_id in ("asked-of-2", "again"):
        verify_without_reasons(server, request_id)


def test_its_pipeline_has_a_report(old: OldStore, tmp_path: Path) -> None:
    old.run("-m", "pipeline.report", "--run_id", PIPELINE, "--base_run_id", BASE, "--output", str(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert "0.7597" in text
    assert "may be worse by more than 0.01" in text


def test_its_log_is_compared_with_its_training_data(old: OldStore, tmp_path: Path) -> None:
    result = tmp_path / "drift.json"
    old.run("-P", "drift/run.py", "--current", "log:?rows=700", "--result", str(result))
    content = json.loads(result.read_text())
    assert (content["status"], content["window"]["rows"], len(content["columns"])) == ("ok", 700, len(COLUMNS.names))
    assert content["dataset_drift"] is False
    assert content["signals"]["realised_auc"]["value"] > 0.6


def test_its_model_writes_the_log_from_mlflows_own_server(old: OldStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in old.env.items():
        monkeypatch.setenv(name, value)
    with start_stock_server(old.folder, "models:/credit_default/1") as stock:
        answer = stock.score(REQUEST)
    assert [row["probability"] for row in answer.json()["predictions"]] == pytest.approx(ANSWERS["1"], abs=1e-12)
    newest = read_log(make_log_url(old.folder)).query("model_version == '1'")
    assert newest["probability"].tolist() == pytest.approx(ANSWERS["1"], abs=1e-12)


def test_its_champion_can_be_tried_on_the_page_for_people_without_reasons(server: Server, tmp_path: Path) -> None:
    with start_browser(tmp_path) as browser:
        browser.open(f"{server.url}/try")
        browser.wait("document.querySelectorAll('.field').length === 23")
        assert browser.run("document.querySelector('.field').innerText.trim()") == "LIMIT_BAL"
        browser.run("document.querySelector('.field input').focus()")
        browser.press("Enter")
        browser.wait("document.getElementById('verdict') !== null")
        text = browser.run("document.getElementById('result').innerText")
    assert "No reasons: An earlier release trained this version" in text
    assert "below the threshold" in text or "at or above the threshold" in text


def test_its_champion_is_rolled_back_under_a_running_scorer(old: OldStore, server: Server) -> None:
    assert server.serves("2")
    old.run("-P", "rollback.py", "--reason", "the older one", "--model_name", "credit_default", cwd=ROOT / "register")
    wait_until(lambda: server.serves("1"), "the scorer serves version 1")
    assert read_probabilities(server, "asked-of-1") == pytest.approx(ANSWERS["1"], abs=1e-12)
    verify_without_reasons(server, "asked-of-2")
