"""The scorer beside MLflow's own server: the same request gets the same answer, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from serve.model.servable import load
from tests.support.scoring_requests import Case, cases
from tests.support.scoring_servers import Server, scorer, stock_server
from tests.support.trained_champion import Champion, two_versions

ALLOWED = {
    "json_deeply_nested": (500, 400, "MLflow's server fails at it; it is the caller's mistake"),
    "content_type_none": (500, 415, "MLflow's server fails at it; it is the caller's mistake"),
    "content_type_capitals": (415, 200, "the spelling of a media type has no meaning"),
    "csv_with_a_short_line": (200, 400, "a damaged row is not a row with missing values"),
    "csv_with_a_double_column": (200, 400, "nobody knows which of the two is meant"),
}
"""Where the statuses differ: MLflow's, ours, and why."""


@pytest.fixture(scope="module")
def trained(store: str, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    champion = two_versions("protocol", tmp_path_factory.mktemp("trained"))
    return replace(champion, row={**champion.row, "AGE": 24.0})


@pytest.fixture(scope="module")
def running(trained: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A scorer that the tests share which leave its model as it is, and the folder of its log."""
    folder = tmp_path_factory.mktemp("running")
    trained.promote("1")
    with scorer(folder, trained.name) as server:
        yield server, folder


@pytest.fixture(scope="module")
def stock(trained: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with stock_server(tmp_path_factory.mktemp("stock"), f"models:/{trained.name}/1") as server:
        yield server


def differences(case: Case, theirs: requests.Response, ours: requests.Response) -> list[str]:
    """What is not the same in two answers to one request; an empty list is a passed case."""
    expected = ALLOWED.get(case.name, (theirs.status_code, theirs.status_code, ""))[:2]
    if (theirs.status_code, ours.status_code) != expected:
        return [f"{case.name}: MLflow {theirs.status_code}, ours {ours.status_code}: {ours.text[:200]}"]
    if ours.status_code == 200:
        return (
            []
            if theirs.status_code != 200 or ours.text == theirs.text
            else [f"{case.name}: {theirs.text[:200]} {ours.text[:200]}"]
        )
    shown = ours.json()
    return [] if shown.get("field") and shown["message"] else [f"{case.name} names no field: {ours.text[:200]}"]


def test_the_same_request_gets_the_same_answer_as_from_mlflow(
    trained: Champion, stock: Server, running: tuple[Server, Path]
) -> None:
    ours, _ = running
    sent = cases(trained.row)
    assert len(sent) >= 200
    found = [
        difference
        for case in sent
        for difference in differences(
            case,
            stock.post("/invocations", case.body, case.content_type),
            ours.post("/invocations", case.body, case.content_type),
        )
    ]
    assert not found, "\n".join(found)


def test_the_other_pages_of_the_protocol_answer_alike(stock: Server, running: tuple[Server, Path]) -> None:
    ours, _ = running
    for path in ("/ping", "/version"):
        theirs = stock.get(path)
        assert (ours.get(path).status_code, ours.get(path).text) == (theirs.status_code, theirs.text)
    assert ours.get("/health").status_code == stock.get("/health").status_code == 200
    for path in ("/invocations", "/nothing"):
        assert ours.get(path).status_code == stock.get(path).status_code


def test_ten_megabytes_are_answered_as_by_mlflow_or_refused_as_too_large(
    trained: Champion, stock: Server, running: tuple[Server, Path]
) -> None:
    server, _ = running
    names, values = list(trained.row), list(trained.row.values())
    table = {"dataframe_split": {"columns": [*names, "x"], "data": [[*values, "y" * 10 * 2**20]]}}
    body = json.dumps(table).encode()
    assert stock.post("/invocations", body).status_code == 200
    assert server.post("/invocations", body).status_code == 413
    under = json.dumps({"dataframe_split": {"columns": names, "data": [values] * 20_000}}).encode()
    answers = server.post("/invocations", under).json()["predictions"]
    assert len(answers) == 20_000


def test_the_docs_hold_an_example_that_works_and_is_no_client(trained: Champion, running: tuple[Server, Path]) -> None:
    server, _ = running
    body = server.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert len(server.score(example).json()["predictions"]) == 2
    of_clients = load(trained.name, "1").example[example["dataframe_split"]["columns"]].to_numpy().tolist()
    assert [row for row in example["dataframe_split"]["data"] if row in of_clients] == [], "a row of a client"
    page = server.get("/docs").text
    assert "dataframe_split" in page
    assert "http" not in page.replace("http-equiv", "")
