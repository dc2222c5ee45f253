"""The scorer beside MLflow's own server: the same request gets the same answer, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from serve.model.servable import load_servable
from tests.support.scoring_requests import Case, make_cases, to_split
from tests.support.scoring_servers import Server, start_stock_server
from tests.support.trained_champion import Champion

ALLOWED = {
    "json_deeply_nested": (500, 400, "MLflow's server fails at it; it is the caller's mistake"),
    "content_type_none": (500, 415, "MLflow's server fails at it; it is the caller's mistake"),
    "content_type_capitals": (415, 200, "the spelling of a media type has no meaning"),
    "csv_with_a_short_line": (200, 400, "a damaged row is not a row with missing values"),
    "csv_with_a_double_column": (200, 400, "nobody knows which of the two is meant"),
}
"""Where the statuses differ: MLflow's, ours, and why."""


@pytest.fixture(scope="module")
def stock(versions: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_stock_server(tmp_path_factory.mktemp("stock"), f"models:/{versions.name}/1") as server:
        yield server


def differences(case: Case, theirs: requests.Response, ours: requests.Response) -> list[str]:
    """What is not the same in two answers to one request; an empty list is a passed case."""
    expected = ALLOWED.get(case.name, (theirs.status_code, theirs.status_code, ""))[:2]
    if (theirs.status_code, ours.status_code) != expected:
        return [f"{case.name}: MLflow {theirs.status_code}, ours {ours.status_code}: {ours.text[:200]}"]
    if ours.status_code != 200:
        named = ours.json().get("field") and ours.json()["message"]
        return [] if named else [f"{case.name} names no field: {ours.text[:200]}"]
    same = theirs.status_code != 200 or ours.text == theirs.text
    return [] if same else [f"{case.name}: {theirs.text[:200]} {ours.text[:200]}"]


def test_the_same_request_gets_the_same_answer_as_from_mlflow(
    trained: Champion, stock: Server, running: Server
) -> None:
    sent = make_cases({**trained.row, "AGE": 24.0})
    assert len(sent) >= 200
    found = []
    for case in sent:
        theirs, ours = (server.post("/invocations", case.body, case.content_type) for server in (stock, running))
        found += differences(case, theirs, ours)
    assert not found, "\n".join(found)


def test_the_other_pages_of_the_protocol_answer_alike(stock: Server, running: Server) -> None:
    for path in ("/ping", "/version"):
        ours, theirs = running.get(path), stock.get(path)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
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
    of_clients = load_servable(trained.name, "1").example[example["dataframe_split"]["columns"]].to_numpy().tolist()
    assert [row for row in example["dataframe_split"]["data"] if row in of_clients] == [], "a row of a client"
    page = running.get("/docs").text
    assert "dataframe_split" in page
    assert "http" not in page.replace("http-equiv", "")
