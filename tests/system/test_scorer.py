"""The scorer beside MLflow's own server: the same answers, all on record, whatever happens to model and registry."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from mlflow.models import Model
from mlflow.types import ColSpec, DataType, Schema

from random_forest.export import FILES
from serve.record.read import read_log
from stepkit.tracking import ROOT
from tests.conftest import Experiment, new_experiment, run_command
from tests.pipelines import run_here, small_forest, small_table
from tests.scorers import Server, log_url, scorer, stock_server
from tests.servers import MlflowServer, free_port, wait_until
from tests.system.scorer_requests import CSV, Case, cases, csv, inputs, instances, records, split

CLOSE = 1e-6
"""How far probabilities may lie apart: MLflow's server adds float32 votes on several threads, the scorer on one."""

ROWS = 'scorer_rows_total{role="champion",version="1"}'
ALLOWED = {
    "json_deeply_nested": (500, 400, "MLflow's server fails at it; it is the caller's mistake"),
    "content_type_none": (500, 415, "MLflow's server fails at it; it is the caller's mistake"),
}
"""Where the statuses differ: MLflow's, ours, and why."""


@dataclass
class Trained:
    """A registered model with two versions that answer differently, and one row to score."""

    experiment: Experiment
    name: str
    row: dict[str, float]

    @property
    def client(self) -> MlflowClient:
        return self.experiment.client

    def promote(self, version: str, alias: str = "champion") -> None:
        self.client.set_registered_model_alias(self.name, alias, version)

    def register(self, model_uri: str) -> str:
        return str(mlflow.register_model(model_uri, self.name).version)


@pytest.fixture(scope="module")
def trained(store: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    experiment = new_experiment("scorer", folder)
    table = small_table(folder)
    for depth in (5, 3):
        depth_of = f"random_forest_pipeline.random_forest.max_depth={depth}"
        here = run_here(experiment, f"data.file_url={table}", *small_forest(), depth_of)
        assert here.error is None, here.said
    example = Model.load(f"models:/{experiment.id_name}/1").load_input_example(f"models:/{experiment.id_name}/1")
    assert isinstance(example, pd.DataFrame)
    trained = Trained(experiment, experiment.id_name, {**example.iloc[0].to_dict(), "AGE": 24.0})
    trained.promote("1")
    return trained


@pytest.fixture(scope="module")
def running(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A scorer that the tests share which leave its model as it is, and the folder of its log."""
    folder = tmp_path_factory.mktemp("running")
    trained.promote("1")
    with scorer(folder, trained.name) as server:
        yield server, folder


@pytest.fixture(scope="module")
def stock(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with stock_server(tmp_path_factory.mktemp("stock"), f"models:/{trained.name}/1") as server:
        yield server


def differences(case: Case, theirs: requests.Response, ours: requests.Response) -> list[str]:
    """What is not the same in two answers to one request; an empty list is a passed case."""
    expected = ALLOWED.get(case.name, (theirs.status_code, theirs.status_code, ""))[:2]
    if (theirs.status_code, ours.status_code) != expected:
        return [f"{case.name}: MLflow {theirs.status_code}, ours {ours.status_code}: {ours.text[:200]}"]
    if ours.status_code == 200:
        same = same_answers(theirs.json()["predictions"], ours.json()["predictions"])
        return [] if same and set(ours.json()) == set(theirs.json()) else [f"{case.name}: {theirs.text} {ours.text}"]
    shown = ours.json()
    return [] if shown.get("field") and shown["message"] else [f"{case.name} names no field: {ours.text[:200]}"]


def same_answers(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> bool:
    return len(theirs) == len(ours) and all(
        list(one) == list(other)
        and one["class"] == other["class"]
        and abs(one["probability"] - other["probability"]) < CLOSE
        for one, other in zip(theirs, ours, strict=True)
    )


def test_the_same_request_gets_the_same_answer_as_from_mlflow(
    trained: Trained, stock: Server, running: tuple[Server, Path]
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


@pytest.mark.parametrize("made", [split, records, instances, inputs, csv])
def test_the_log_holds_what_was_asked_and_what_was_answered(
    trained: Trained, running: tuple[Server, Path], made: Any
) -> None:
    server, folder = running
    rows = [{**trained.row, "AGE": None}, {**trained.row, "SEX": 99.0}]
    table = made(rows)
    body = table.encode() if isinstance(table, str) else json.dumps(table).encode()
    answer = server.post("/invocations", body, CSV if isinstance(table, str) else "application/json")
    kept = logged(folder, answer.headers["X-Request-Id"])
    assert [{"probability": row.probability, "class": row.predicted} for row in kept.itertuples()] == (
        answer.json()["predictions"]
    )
    assert set(kept["model_version"]) == {answer.headers["X-Model-Version"]}
    found = kept[list(trained.row)].astype(float)
    pd.testing.assert_frame_equal(found, pd.DataFrame(rows).astype(float), check_names=False)


def logged(folder: Path, request_id: str) -> pd.DataFrame:
    everything = read_log(log_url(folder), shadow=None)
    return everything[everything["request_id"] == request_id].sort_values("row").reset_index(drop=True)


def test_a_request_id_is_kept_if_it_is_well_formed(trained: Trained, running: tuple[Server, Path]) -> None:
    server, folder = running
    good = server.score(split([trained.row]), **{"X-Request-Id": "order-4711.a"})
    assert good.headers["X-Request-Id"] == "order-4711.a"
    assert len(logged(folder, "order-4711.a")) == 1
    bad = server.score(split([trained.row]), **{"X-Request-Id": "a b"})
    assert bad.ok
    assert bad.headers["X-Request-Id"] != "a b"


def test_an_id_that_stands_on_record_with_other_rows_is_refused(trained: Trained, running: tuple[Server, Path]) -> None:
    server, _ = running
    again = {"X-Request-Id": "asked-twice"}
    assert [server.score(split([trained.row]), **again).status_code for _ in range(2)] == [200, 200]
    other = server.score(split([{**trained.row, "AGE": 77.0}]), **again)
    assert (other.status_code, other.json()["field"]) == (409, "X-Request-Id")


def test_feedback_is_taken_once_and_only_for_what_was_answered(trained: Trained, running: tuple[Server, Path]) -> None:
    server, _ = running
    request_id = server.score(split([trained.row])).headers["X-Request-Id"]

    def label(**fields: Any) -> requests.Response:
        return server.post("/feedback", json.dumps({"request_id": request_id, "label": 1, **fields}).encode())

    assert [label().json()["result"] for _ in range(2)] == ["new", "repeated"]
    assert label(label=0).json()["result"] == "changed"
    assert label(row=1).status_code == label(request_id="unknown").status_code == 404
    assert [(label(**wrong).status_code, label(**wrong).json()["field"]) for wrong in ({"label": 2}, {"row": -1})] == [
        (400, "label"),
        (400, "row"),
    ]


def test_the_docs_hold_an_example_that_works(running: tuple[Server, Path]) -> None:
    server, _ = running
    body = server.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]
    assert len(server.score(body["content"]["application/json"]["example"]).json()["predictions"]) == 2
    page = server.get("/docs").text
    assert "dataframe_split" in page
    assert "http" not in page.replace("http-equiv", "")


def test_each_request_leaves_one_line_without_its_values(trained: Trained, running: tuple[Server, Path]) -> None:
    server, _ = running
    request_id = server.score(split([{**trained.row, "AGE": 123456.5}])).headers["X-Request-Id"]
    wait_until(lambda: any(line["request_id"] == request_id for line in server.events("request")), "the line", 10)
    (line,) = [line for line in server.events("request") if line["request_id"] == request_id]
    assert (line["status"], line["rows"], line["path"]) == (200, 1, "/invocations")
    assert "123456.5" not in server.output.read_text()


def test_limits_and_key(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    with scorer(tmp_path, trained.name, max_body_mb=1, env={"SCORER_API_KEY": "hush"}) as server:
        assert server.score(split([trained.row])).status_code == 401
        assert server.score(split([trained.row]), **{"X-API-Key": "wrong"}).status_code == 401
        assert server.score(split([trained.row]), Authorization="Bearer hush").status_code == 200
        large = server.post("/invocations", b" " * 3 * 2**20, **{"X-API-Key": "hush"})
        assert (large.status_code, large.json()["field"]) == (413, "body")
        assert server.score(split([trained.row]), **{"X-API-Key": "hush"}).status_code == 200
        assert server.end() == 0


def test_a_body_that_does_not_end_is_given_up_and_holds_nobody_up(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    with scorer(tmp_path, trained.name, request_seconds=1) as server:
        head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30) as slow:
            slow.sendall(head.encode())
            assert server.score(split([trained.row])).ok
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("answer", 200)])
def test_without_a_log_the_policy_decides(trained: Trained, tmp_path: Path, policy: str, status: int) -> None:
    trained.promote("1")
    with scorer(tmp_path, trained.name, when_unavailable=policy) as server:
        assert server.score(split([trained.row])).ok
        with closing(sqlite3.connect(tmp_path / "predictions.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            answer = server.score(split([trained.row]))
            assert answer.status_code == status
            assert status == 200 or answer.json()["error_code"] == "LOG_UNAVAILABLE"
            assert "locked" in server.health()["log"]["trouble"]
        assert metric(server, "scorer_unrecorded_answers_total") == (status == 200)
        wait_until(lambda: server.score(split([trained.row])).ok, "it answers once the log is back")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_that_cannot_be_is_one_line(workers: str) -> None:
    flags = ["--log_url", "mysql://nowhere/log", "--workers", workers, "--port", str(free_port())]
    ended = run_command(sys.executable, "-P", "run.py", *flags, cwd=ROOT / "serve", PYTHONPATH="..")
    assert ended.returncode == 1
    assert ended.stderr.startswith("LogUnfit: ")
    assert ended.stderr.count("\n") == 1


def test_ten_megabytes_are_answered_as_by_mlflow_or_refused_as_too_large(
    trained: Trained, stock: Server, running: tuple[Server, Path]
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


def test_a_new_champion_is_swapped_in_without_a_failed_or_mixed_answer(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    with scorer(tmp_path, trained.name) as server:
        request = split([trained.row] * 3)
        seen: list[tuple[int, str, frozenset[float]]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answer = server.score(request)
                values = frozenset(one["probability"] for one in answer.json().get("predictions", []))
                seen.append((answer.status_code, answer.headers["X-Model-Version"], values))

        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask) for _ in range(2)]
            try:
                for version in ("2", "1", "2"):
                    trained.promote(version)
                    wait_until(lambda version=version: server.serves(version), f"version {version} is served")  # type: ignore[misc]
            finally:
                stop.set()
            for one in asking:
                one.result()
        assert {status for status, _, _ in seen} == {200}
        assert len({(version, values) for _, version, values in seen}) == 2
        assert all(len(values) == 1 for _, _, values in seen)
        assert server.end() == 0
    trained.promote("1")


def bad_signature(trained: Trained) -> str:
    """Register version 1's files under a signature with one column more."""
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{trained.name}/1"))
    model = Model.load(str(path))
    assert model.signature is not None
    columns = [*model.signature.inputs.inputs, ColSpec(DataType.double, "more", required=False)]
    model.signature.inputs = Schema(columns)
    mlflow.set_experiment(trained.experiment.name)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="other",
            python_model=str(ROOT / "random_forest" / "predictor.py"),
            artifacts={name: str(path / "artifacts" / file) for name, file in FILES.items()},
            signature=model.signature,
            input_example=model.load_input_example(str(path)),
            pip_requirements=["mlflow"],
        )
    return trained.register(info.model_uri)


def broken(trained: Trained) -> str:
    """Register a copy of that model whose graph is cut off."""
    version = bad_signature(trained)
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{trained.name}/{version}"))
    (path / "artifacts" / "model.onnx").write_bytes(b"cut off")
    return version


def test_a_bad_model_is_refused_and_the_old_one_stays(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    bad = {bad_signature(trained): "another signature", broken(trained): "cannot be loaded"}
    with scorer(tmp_path, trained.name) as server:
        for version, reason in bad.items():
            trained.promote(version)
            wait_until(lambda version=version: refused(server, version), f"version {version} is refused")  # type: ignore[misc]
            assert reason in server.health()["refused"][0]["reason"]
            assert server.score(split([trained.row])).headers["X-Model-Version"] == "1"
        assert [line["version"] for line in server.events("model_refused")] == list(bad)
        assert 'scorer_model_changes_total{result="refused",role="champion"} 2.0' in server.get("/metrics").text
        trained.promote("2")
        wait_until(lambda: server.serves("2"), "the next good version is taken")
        assert server.health()["refused"] == []
    trained.promote("1")


def refused(server: Server, version: str) -> bool:
    return any(one["version"] == version for one in server.health()["refused"])


def test_a_model_that_is_too_slow_is_not_served(trained: Trained, tmp_path: Path) -> None:
    with scorer(tmp_path, trained.name, wait=False, slowest_ms=0.000001) as server:
        wait_until(lambda: bool(server.output.read_text().count('"model_refused"')), "the model is refused")
        assert server.get("/ping").status_code == 503
        answer = server.score(split([trained.row]))
        assert (answer.status_code, answer.json()["error_code"]) == (503, "NO_MODEL")
        assert "slowest_ms" in answer.json()["message"]
        assert server.end() == 0


def test_the_shadow_is_recorded_and_never_answers(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    trained.promote("2", "candidate")
    with scorer(tmp_path, trained.name, shadow_alias="candidate") as server:
        wait_until(lambda: server.health()["shadow"] is not None, "the shadow is loaded")
        answer = server.score(split([trained.row]))
        request_id = answer.headers["X-Request-Id"]
        wait_until(lambda: len(logged(tmp_path, request_id)) == 2, "both are on record")
        kept = {shadow: read_log(log_url(tmp_path), shadow=shadow) for shadow in (False, True)}
        assert {shadow: list(one["model_version"]) for shadow, one in kept.items()} == {False: ["1"], True: ["2"]}
        assert list(kept[False]["probability"]) == [answer.json()["predictions"][0]["probability"]]


def test_two_workers_add_up(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    with scorer(tmp_path, trained.name, workers=2) as server:
        wait_until(
            lambda: metric(server, 'scorer_model_workers{role="champion",version="1"}') == 2, "both have a model"
        )
        for _ in range(40):
            assert server.score(split([trained.row] * 2)).ok
        assert metric(server, 'scorer_requests_total{path="/invocations",status="200"}') == 40
        assert metric(server, ROWS) == 80
        assert metric(server, 'scorer_score_count{version="1"}') == 80
        assert len(read_log(log_url(tmp_path))) == 80
        assert server.end() == 0


def metric(server: Server, name: str) -> float:
    lines = [line for line in server.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def test_what_was_accepted_is_answered_before_a_stop(trained: Trained, tmp_path: Path) -> None:
    trained.promote("1")
    with scorer(tmp_path, trained.name) as server, ThreadPoolExecutor(1) as pool:
        large = pool.submit(server.score, split([trained.row] * 20_000), **{"X-Request-Id": "last-one"})
        wait_until(lambda: has_begun(server), "the request has arrived")
        assert server.end() == 0
        assert len(large.result().json()["predictions"]) == 20_000
    assert len(logged(tmp_path, "last-one")) == 20_000


def has_begun(server: Server) -> bool:
    # the request that asks is one of those in progress
    return metric(server, "scorer_requests_in_progress") >= 2 or metric(server, ROWS) > 0


def test_a_registry_that_is_gone_is_waited_for_and_then_done_without(
    trained: Trained, store: str, tmp_path: Path
) -> None:
    trained.promote("1")
    registry = MlflowServer(store, tmp_path)
    try:
        env = {"MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        with scorer(tmp_path, trained.name, wait=False, env=env) as server:
            wait_until(lambda: '"waiting"' in server.output.read_text(), "it says that it waits")
            assert "registry" in server.health()["waiting_for"]
            assert server.score(split([trained.row])).status_code == 503
            registry.start()
            wait_until(server.is_ready, "it serves once the registry is there")
            registry.stop()
            wait_until(lambda: server.health()["registry"] != "ok", "it sees that the registry is gone")
            assert server.score(split([trained.row])).ok
            assert metric(server, "scorer_registry_up") == 0
            assert server.end() == 0
    finally:
        registry.stop()
