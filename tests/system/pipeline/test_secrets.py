"""Marked secrets that pass through a pipeline and a scorer, and must not be in any store, artifact, log or response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from ci.report import COMMENT, SUMMARY, make_files
from pipeline.report.gather import gather
from prediction_log.read import read_log
from simulate.clients import simulate_clients
from tests.conftest import Experiment, StepResult, create_experiment
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import SMALL_ROWS, PipelineResult, make_small_forest, run_here
from tests.support.prediction_logs import create_database
from tests.support.reports import COMMIT
from tests.support.scoring_requests import to_split
from tests.support.scoring_servers import start_scorer

MARK = "XqSECRETqX"
KEY = f"{MARK}-scorer"
UNHEARD_OF = 987654321.25
"""Value of a row that occurs nowhere else."""


@pytest.fixture(scope="module")
def secrets(log_server: str) -> Iterator[dict[str, str]]:
    """Secrets in the environment: keys, passwords, and a signed URL of the data on a real server."""
    with pytest.MonkeyPatch.context() as patch, FaultyServer() as server:
        server.files["clients.csv"] = simulate_clients(SMALL_ROWS, seed=4).to_csv(index=False).encode()
        log_url = create_database(log_server).replace("@", f":{MARK}/log@", 1)
        values = {
            "AWS_SECRET_ACCESS_KEY": f"{MARK}-aws",
            "MLFLOW_TRACKING_USERNAME": "someone",
            "MLFLOW_TRACKING_PASSWORD": f"{MARK}-mlflow",
            "SCORER_API_KEY": KEY,
            "PREDICTION_LOG_URL": f"{log_url}?sslpassword={MARK}-ssl",
            "DATA_URL": f"{server.url('good/clients.csv')}?X-Amz-Signature={MARK}-signed",
            "NO_DATA_URL": f"{server.url('forbidden/clients.csv')}?part={MARK}-signed",
            "CUT_DATA_URL": f"{server.url('cut/clients.csv')}?part={MARK}-signed",
        }
        for name, value in values.items():
            patch.setenv(name, value)
        yield values


@dataclass
class Ran:
    """Files and output of a pipeline and a scorer."""

    place: Experiment
    pipeline: PipelineResult
    folder: Path
    said: str

    @property
    def files(self) -> list[Path]:
        database = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///"))
        everything = [*self.folder.rglob("*"), *database.parent.glob(f"{database.name}*")]
        return [path for path in everything if path.is_file()]


@pytest.fixture(scope="module")
def ran(store: str, secrets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp("secrets")
    place = create_experiment("secrets", folder)
    pipeline = run_here(place, "data.file_url='env:DATA_URL'", *make_small_forest())
    assert pipeline.error is None
    row = {**read_first_row(pipeline, place), "LIMIT_BAL": UNHEARD_OF}
    with start_scorer(folder, place.id_name, log_url="", env=secrets) as server:
        answers = [
            server.score(to_split([row]), **{"X-API-Key": KEY}),
            server.score(to_split([row]), **{"X-API-Key": f"{KEY}-wrong"}),
            server.score(to_split([{**row, "AGE": "old"}]), **{"X-API-Key": KEY}),
            *(server.get(path) for path in ("/metrics", "/health", "/version", "/openapi.json")),
        ]
        assert server.end() == 0
    assert [answer.status_code for answer in answers[:3]] == [200, 401, 400]
    output = "\n".join([pipeline.said, *(f"{answer.headers}\n{answer.text}" for answer in answers)])
    return Ran(place, pipeline, folder, output)


def read_first_row(pipeline: PipelineResult, place: Experiment) -> dict[str, float]:
    table = pipeline.runs.table(place, "segregate", "data/data_test.csv").drop(columns="default")
    return {str(name): float(value) for name, value in table.iloc[0].items()}


def list_files_with(mark: str, files: list[Path]) -> list[str]:
    return [path.name for path in files if mark.encode() in path.read_bytes()]


def test_the_search_would_find_what_is_kept(ran: Ran) -> None:
    """The URL without its signature is in the store, and the row is in the prediction log."""
    assert len(ran.files) > 30
    assert "mlflow.db" in list_files_with("env:DATA_URL", ran.files)
    assert "mlflow.db" in list_files_with("/good/clients.csv", ran.files)


def test_no_store_artifact_or_log_holds_a_secret(ran: Ran) -> None:
    assert list_files_with(MARK, ran.files) == []


def test_nothing_that_was_printed_or_answered_holds_a_secret(ran: Ran) -> None:
    assert MARK not in ran.said


def test_the_prediction_log_holds_the_row_and_no_secret(ran: Ran, secrets: dict[str, str]) -> None:
    logged = read_log(secrets["PREDICTION_LOG_URL"]).to_csv()
    assert "987654321" in logged
    assert MARK not in logged


def test_the_scorers_log_lines_hold_no_value_of_a_row(ran: Ran) -> None:
    logs = list(ran.folder.glob("scorer-*.log"))
    assert len(logs) == 1
    assert logs[0].stat().st_size > 0
    assert list_files_with("987654321", logs) == []


@pytest.mark.parametrize(
    ("variable", "words"), [("NO_DATA_URL", "the server answered 403"), ("CUT_DATA_URL", "failed on each of 1 tries")]
)
@pytest.mark.usefixtures("experiment", "secrets")
def test_a_download_that_fails_names_the_address_without_its_query(
    run_step: Callable[..., StepResult], tmp_path: Path, variable: str, words: str
) -> None:
    ended = run_step("download", file_url=f"env:{variable}", attempts=1)
    assert ended.status == 1
    assert [word for word in (words, "/clients.csv") if word not in ended.message] == []
    assert MARK not in ended.message + ended.log
    assert list_files_with(MARK, [path for path in tmp_path.rglob("*") if path.is_file()]) == []


def test_the_comment_tells_of_that_run(ran: Ran, tmp_path: Path) -> None:
    files = make_files(gather(MlflowClient(), ran.pipeline.runs.parent.info.run_id, tmp_path), COMMIT)
    auc = ran.pipeline.runs.steps["evaluate"].data.metrics["test_roc_auc"]
    for words in ("**✅ Passed the gate", f"| ROC AUC | {auc:.4f} |", "| sample (synthetic) |", "Data checks: "):
        assert words in files[COMMENT]
    assert "7 steps ran, 0 reused" in files[COMMENT]
    assert MARK not in files[COMMENT] + files[SUMMARY]
