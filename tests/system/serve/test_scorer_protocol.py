"""The scorer beside MLflow's own server: the same request gets the same answer, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from serve.batch import run as batch
from serve.model.servable import load_servable
from tests.conftest import run_command
from tests.support.scoring_requests import Case, make_cases, to_split
from tests.support.scoring_servers import Server, start_stock_server
from tests.support.trained_champion import Champion, make_clients_with_gaps

ALLOWED = {
    "json_deeply_nested": (500, 400, "MLflow's server fails, although the caller made the mistake"),
    "content_type_none": (500, 415, "MLflow's server fails, although the caller made the mistake"),
    "content_type_capitals": (415, 200, "media types are case-insensitive"),
    "csv_with_a_short_line": (200, 400, "a damaged row must not become a row with missing values"),
    "csv_with_a_double_column": (200, 400, "the two columns are ambiguous"),
}
"""Cases whose statuses differ: MLflow's, the scorer's, and the reason."""


@pytest.fixture(scope="module")
def stock(versions: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_stock_server(tmp_path_factory.mktemp("stock"), f"models:/{versions.name}/1") as server:
        yield server


def list_differences(case: Case, stock_response: requests.Response, response: requests.Response) -> list[str]:
    """Return the differences between two responses to one request; an empty list if there are none."""
    expected = ALLOWED.get(case.name, (stock_response.status_code, stock_response.status_code, ""))[:2]
    if (stock_response.status_code, response.status_code) != expected:
        return [
            f"{case.name}: MLflow {stock_response.status_code}, scorer {response.status_code}: {response.text[:200]}"
        ]
    if response.status_code != 200:
        has_field = response.json().get("field") and response.json()["message"]
        return [] if has_field else [f"{case.name} has no field: {response.text[:200]}"]
    is_same = stock_response.status_code != 200 or response.text == stock_response.text
    return [] if is_same else [f"{case.name}: {stock_response.text[:200]} {response.text[:200]}"]


def test_the_same_request_gets_the_same_answer_as_from_mlflow(
    trained: Champion, stock: Server, running: Server
) -> None:
    cases = make_cases({**trained.row, "AGE": 24.0})
    assert len(cases) >= 200
    differences = []
    for case in cases:
        stock_response, response = (
            server.post("/invocations", case.body, case.content_type) for server in (stock, running)
        )
        differences += list_differences(case, stock_response, response)
    assert not differences, "\n".join(differences)


def test_the_other_pages_of_the_protocol_answer_alike(stock: Server, running: Server) -> None:
    for path in ("/ping", "/version"):
        response, stock_response = running.get(path), stock.get(path)
        assert (response.status_code, response.text) == (stock_response.status_code, stock_response.text)
    assert running.get("/version").headers["x-model-calibration"] == "sigmoid"
    assert running.get("/health").json()["model"]["calibration"] == "sigmoid"
    assert running.get("/health").status_code == stock.get("/health").status_code == 200
    for path in ("/invocations", "/nothing"):
        assert running.get(path).status_code == stock.get(path).status_code


def test_ten_megabytes_are_answered_as_by_mlflow_or_refused_as_too_large(
    trained: Champion, stock: Server, running: Server
) -> None:
    body = json.dumps(to_split([{**trained.row, "x": "y" * 10 * 2**20}])).encode()
    assert stock.post("/invocations", body).status_code == 200
    assert running.post("/invocations", body).status_code == 413
    assert len(running.score(trained.split(20_000)).json()["predictions"]) == 20_000


def test_the_docs_hold_an_example_that_works_and_is_no_client(trained: Champion, running: Server) -> None:
    body = running.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert len(running.score(example).json()["predictions"]) == 2
    clients = load_servable(trained.name, "1").example[example["dataframe_split"]["columns"]].to_numpy().tolist()
    assert [row for row in example["dataframe_split"]["data"] if row in clients] == [], "a row of a client"
    page = running.get("/docs").text
    assert "dataframe_split" in page
    assert "http" not in page.replace("http-equiv", "")


def test_reasons_are_equal_in_the_scorer_mlflow_and_batch(
    trained: Champion, stock: Server, running: Server, tmp_path: Path
) -> None:
    table = make_clients_with_gaps(1000, seed=3)
    table.to_csv(tmp_path / "rows.csv", index=False)
    rows = json.loads(table[list(trained.row)].to_json(orient="split", index=False))
    request = {"dataframe_split": rows, "params": {"reasons": 4}}
    responses = [server.score(request) for server in (stock, running)]
    assert responses[0].text == responses[1].text
    answers = responses[1].json()["predictions"]
    plain = running.score({"dataframe_split": rows}).json()["predictions"]
    for answer, without in zip(answers, plain, strict=True):
        assert list(answer) == [*without, "reasons", "baseline", "protected_effect", "other"]
        assert {key: answer[key] for key in without} == without
        parts = [answer["baseline"], answer["protected_effect"], answer["other"]]
        total = sum(parts) + sum(reason["effect"] for reason in answer["reasons"])
        assert total == pytest.approx(answer["probability"], abs=1e-6)
        assert not {"SEX", "MARRIAGE", "AGE"} & {reason["column"] for reason in answer["reasons"]}
    batch.run(
        batch.Job(tmp_path / "rows.csv", tmp_path / "out.parquet", f"models:/{trained.name}/1", "none", 300, reasons=4)
    )
    for row, answer in zip(pq.read_table(tmp_path / "out.parquet").to_pylist(), answers, strict=True):
        expected = {key: answer[key] for key in ("probability", "baseline", "protected_effect", "other")}
        for number, reason in enumerate(answer["reasons"], 1):
            expected[f"reason_{number}"] = reason["column"]
            expected[f"reason_{number}_effect"] = reason["effect"]
            expected[f"reason_{number}_text"] = reason.get("reason")
        assert {key: row[key] for key in expected} == expected


def test_mlflow_models_predict_answers_with_reasons(trained: Champion, running: Server, tmp_path: Path) -> None:
    request = {**trained.split(2), "params": {"reasons": 3}}
    source, output = tmp_path / "request.json", tmp_path / "answer.json"
    source.write_text(json.dumps(request))
    words = ("mlflow", "models", "predict", "-m", f"models:/{trained.name}/1", "--env-manager", "local", "-t", "json")
    ended = run_command(*words, "-i", str(source), "-o", str(output))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(output.read_text()) == running.score(request).json()


def test_the_reasons_of_a_row_do_not_depend_on_the_other_rows(trained: Champion, running: Server) -> None:
    table = make_clients_with_gaps(40, seed=4)[list(trained.row)]
    data = json.loads(table.to_json(orient="values"))

    def explain(rows: list[list[float]]) -> list[dict[str, Any]]:
        split = {"columns": list(trained.row), "data": rows}
        answers: list[dict[str, Any]] = running.score({"dataframe_split": split, "params": {"reasons": 23}}).json()[
            "predictions"
        ]
        return answers

    together = explain(data)
    assert explain(data[::-1])[::-1] == together
    assert [explain([row])[0] for row in data[:10]] == together[:10]


@pytest.mark.parametrize("params", [{"reasons": -1}, {"reasons": 24}, {"reasons": "four"}, {"reasons": 1.5}, [4], 4])
def test_wrong_reasons_are_refused_as_by_mlflow_and_not_recorded(
    trained: Champion, stock: Server, running: Server, params: Any
) -> None:
    request = {**trained.split(), "params": params}
    response = running.score(request, **{"X-Request-Id": "wrong-reasons"})
    assert (stock.score(request).status_code, response.status_code) == (400, 400)
    assert response.json()["field"] == "params"
    assert response.json()["message"].startswith("params: ")
    feedback = running.post("/feedback", b'{"request_id": "wrong-reasons", "label": 1}')
    assert feedback.json()["error_code"] == "UNKNOWN_REQUEST"


@pytest.mark.parametrize("params", [{}, None, {"reasons": 0}, {"unknown": 1}, {"reasons": None}])
def test_params_without_reasons_get_the_plain_answer(
    trained: Champion, stock: Server, running: Server, params: Any
) -> None:
    request = {**trained.split(), "params": params}
    responses = [server.score(request) for server in (stock, running)]
    assert [response.text for response in responses] == [running.score(trained.split()).text] * 2
