"""The scorer follows its champion: good versions are swapped in, bad ones refused, and the registry may be gone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import onnx
import pandas as pd
import pytest
from mlflow.models import Model
from mlflow.types import ColSpec, DataType, Schema

from prediction_log.read import read_log
from serve.errors import ModelFailed, ModelRefused
from serve.model.fetch_model import fetch_and_verify
from serve.model.servable import load_servable
from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from stepkit.store import tracking
from tests.support.scoring_requests import to_split
from tests.support.scoring_servers import Server, make_log_url, read_logged_rows, read_metric, start_scorer
from tests.support.servers import start_mlflow_server, wait_until
from tests.support.tcp_proxy import TcpProxy
from tests.support.trained_champion import Champion, register_forest
from training.export import FILES
from training.onnx_graph import PROBABILITIES

PREDICTOR = ROOT / "training" / "served_model.py"


def download_files(trained: Champion, folder: Path | None = None) -> Path:
    """Return a copy of version 1's files."""
    uri, target = f"models:/{trained.name}/1", str(folder) if folder else None
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=target))


def register_files(trained: Champion, files: Path) -> str:
    return str(trained.experiment.client.create_model_version(trained.name, source=str(files)).version)


def register_copy(trained: Champion, model: Any, new_columns: Sequence[ColSpec] = (), example: bool = True) -> str:
    """Register version 1's files with another Python model, or with additional columns in the signature."""
    path = download_files(trained)
    metadata = Model.load(str(path))
    assert metadata.signature is not None
    metadata.signature.inputs = Schema([*metadata.signature.inputs.inputs, *new_columns])
    mlflow.set_experiment(trained.experiment.name)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="other",
            python_model=model,
            artifacts={name: str(path / "artifacts" / file) for name, file in FILES.items()},
            signature=metadata.signature,
            input_example=metadata.load_input_example(str(path)) if example else None,
            pip_requirements=["mlflow"],
        )
    return str(mlflow.register_model(info.model_uri, trained.name).version)


def register_other_signature(trained: Champion) -> str:
    return register_copy(trained, str(PREDICTOR), [ColSpec(DataType.double, "more", required=False)])


def register_broken(trained: Champion, folder: Path) -> str:
    """Register a copy of version 1 with a truncated graph."""
    files = download_files(trained, folder)
    (files / "artifacts" / FILES["onnx"]).write_bytes(b"cut off")
    return register_files(trained, files)


class Trap(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]  # MLflow does not type it
    """Model that creates a file as soon as it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.file,))  # type: ignore[return-value]

    def predict(self, context: object, model_input: list[str]) -> list[str]:
        return model_input


def test_a_pickled_model_is_refused_unopened(
    trained: Champion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprung = tmp_path / "sprung"
    # With an example, log_model would call the model and spring the trap.
    version = register_copy(trained, Trap(sprung), example=False)
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    monkeypatch.setattr(
        "serve.model.servable._load_example", lambda version, metadata, path: pd.DataFrame([trained.row])
    )
    with pytest.raises(ModelRefused, match="pickle"):
        load_servable(trained.name, version)
    assert not sprung.exists()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    with pytest.raises(ModelRefused):
        load_servable(trained.name, version)
    assert sprung.exists(), "the trap does not work"


@pytest.mark.parametrize(
    "formula",
    [
        pytest.param(r"\1 + 2e-6", id="a-little"),
        pytest.param(r"\1 + 0.1 * np.isnan(inputs[next(iter(inputs))][:, 0])", id="where-values-are-missing"),
    ],
)
def test_a_graph_that_answers_otherwise_than_the_registered_model_is_refused(
    trained: Champion, tmp_path: Path, formula: str
) -> None:
    code = tmp_path / "predictor.py"
    source, count = re.subn(r"return (\w+)\.clip\(0\.0, 1\.0\)", f"return {formula}", PREDICTOR.read_text())
    assert count == 1
    code.write_text(source)
    version = register_copy(trained, str(code))
    tracking.connect()
    with pytest.raises(ModelRefused, match="predictions differ from its MLflow model"):
        load_servable(trained.name, version)
    # Batch scoring, which runs without MLflow, verifies the same.
    with pytest.raises(ModelRefused, match="predictions differ from its MLflow model"):
        fetch_and_verify(f"models:/{trained.name}/{version}", str(tmp_path))


def test_a_bad_model_is_refused_and_the_old_one_stays(trained: Champion, tmp_path: Path) -> None:
    bad = {
        register_other_signature(trained): "signature differs",
        register_broken(trained, tmp_path / "broken"): "cannot be loaded",
    }
    with start_scorer(tmp_path, trained.name) as server:
        for version, reason in bad.items():
            trained.promote(version)
            wait_until(lambda version=version: is_refused(server, version), f"version {version} is refused")  # type: ignore[misc]
            assert reason in server.health()["refused"][0]["reason"]
            assert server.score(trained.split()).headers["X-Model-Version"] == "1"
        assert [line["version"] for line in server.events("model_refused")] == list(bad)
        assert 'scorer_model_changes_total{result="refused",role="champion"} 2.0' in server.get("/metrics").text
        trained.promote("2")
        wait_until(lambda: server.serves("2"), "the next good version is taken")
        assert server.health()["refused"] == []


def register_failing(trained: Champion, folder: Path, factor: float) -> str:
    """Register a version whose graph multiplies the probability by `factor` where AGE is above 150."""
    files = download_files(trained, folder)
    path = files / "artifacts" / FILES["onnx"]
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.output[:] = ["before" if name == PROBABILITIES else name for name in node.output]
    for name, value in (("edge", 150.0), ("one", 1.0), ("odd", factor)):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [1], [value]))
    steps = {"Greater": ["AGE", "edge"], "Where": ["Greater", "odd", "one"], "Mul": ["before", "Where"]}
    model.graph.node.extend(
        onnx.helper.make_node(name, inputs, [PROBABILITIES if name == "Mul" else name])
        for name, inputs in steps.items()
    )
    onnx.save(model, str(path))
    return register_files(trained, files)


def register_other_example(trained: Champion, folder: Path, secret: float) -> str:
    """Register a version whose example has a secret value, and no column AGE."""
    files = download_files(trained, folder)
    example = files / "input_example.json"
    table = pd.DataFrame(**json.loads(example.read_text())).drop(columns="AGE").assign(LIMIT_BAL=secret)
    example.write_text(table.to_json(orient="split", index=False))
    return register_files(trained, files)


@pytest.mark.parametrize("factor", [float("nan"), 20.0, -3.0])
def test_a_model_that_fails_is_not_answered_with(trained: Champion, tmp_path: Path, factor: float) -> None:
    model = load_servable(trained.name, register_failing(trained, tmp_path, factor))
    good, bad = (model.to_rows(pd.DataFrame([{**trained.row, "AGE": age}])) for age in (24.0, 200.0))
    assert 0 <= model.score(good).probability[0] <= 1
    with pytest.raises(ModelFailed, match=f"version {model.version}: returned a probability that is not a number from"):
        model.score(bad)


def test_a_failing_model_and_a_refused_one_are_named_without_a_value_of_a_row(
    trained: Champion, tmp_path: Path
) -> None:
    version = register_failing(trained, tmp_path / "failing", float("nan"))
    other_example = register_other_example(trained, tmp_path / "example", 16180339.5)
    trained.promote(version)
    with start_scorer(tmp_path, trained.name, when_unavailable="answer") as server:
        odd = {**trained.row, "AGE": 27182.5}
        for rows in ([odd], [trained.row, odd]):
            response = server.score(to_split(rows), **{"X-Request-Id": f"odd-{len(rows)}"})
            assert (response.status_code, response.json()["error_code"]) == (500, "MODEL_FAILED")
            assert f"{trained.name} version {version}" in response.json()["message"]
        assert server.score(trained.split(), **{"X-Request-Id": "fine"}).ok
        trained.promote(other_example)
        wait_until(lambda: is_refused(server, other_example), f"version {other_example} is refused")
        text = server.get("/health").text + server.output.read_text()
    log_rows = read_log(make_log_url(tmp_path))
    assert log_rows["request_id"].tolist() == ["fine"]
    assert f"version {other_example}: cannot score its input example" in text
    assert "missing inputs ['AGE']" in text
    assert "16180339" not in text
    assert "27182" not in text


def is_refused(server: Server, version: str) -> bool:
    return any(refusal["version"] == version for refusal in server.health()["refused"])


def test_a_model_that_is_too_slow_is_not_served(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, wait=False, slowest_ms=0.000001) as server:
        wait_until(lambda: server.has_logged("model_refused"), "the model is refused")
        assert server.get("/ping").status_code == 503
        response = server.score(trained.split())
        assert (response.status_code, response.json()["error_code"]) == (503, "NO_MODEL")
        assert "slowest_ms" in response.json()["message"]
        assert server.end() == 0


def test_the_shadow_is_recorded_and_never_answers(trained: Champion, tmp_path: Path) -> None:
    trained.promote("2", "candidate")
    with start_scorer(tmp_path, trained.name, shadow_alias="candidate") as server:
        wait_until(lambda: server.health()["shadow"] is not None, "the shadow is loaded")
        response = server.score(trained.split())
        request_id = response.headers["X-Request-Id"]
        wait_until(lambda: len(read_logged_rows(tmp_path, request_id)) == 2, "both predictions are in the log")
        logs = {shadow: read_log(make_log_url(tmp_path), shadow=shadow) for shadow in (False, True)}
        assert {shadow: list(log["model_version"]) for shadow, log in logs.items()} == {False: ["1"], True: ["2"]}
        assert list(logs[False]["probability"]) == [response.json()["predictions"][0]["probability"]]


def test_a_registry_that_is_gone_is_waited_for_then_done_without_and_heeded_again(
    trained: Champion, store: str, tmp_path: Path
) -> None:
    port = find_free_port()
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with (
        start_mlflow_server(store, tmp_path) as registry,
        start_scorer(tmp_path, trained.name, wait=False, env=env) as server,
    ):
        wait_until(lambda: server.has_logged("waiting"), "the scorer reports that it is waiting")
        assert "registry" in server.health()["waiting_for"]
        assert server.score(trained.split()).status_code == 503
        with TcpProxy(registry.port, port):
            wait_until(server.is_ready, "the scorer serves once the registry responds")
        wait_until(lambda: server.health()["registry"] != "ok", "the scorer notices that the registry is unavailable")
        assert server.score(trained.split()).ok
        assert read_metric(server, "scorer_registry_up") == 0
        trained.promote("2")
        with TcpProxy(registry.port, port):
            wait_until(lambda: server.serves("2"), "the scorer loads the new champion")
            wait_until(lambda: server.health()["registry"] == "ok", "the scorer has read the registry")
        # The registry was unavailable at the start too, which does not count as lost.
        assert [len(server.events(event)) for event in ("registry_gone", "registry_back")] == [1, 2]
        assert server.end() == 0


def test_a_version_without_protected_columns_is_served_and_records_what_callers_send(
    versions: Champion, tmp_path: Path
) -> None:
    versions.promote("1")
    register_forest(versions.experiment, tmp_path, depth=4, exclude_protected=True)
    version = str(
        max(int(item.version) for item in versions.experiment.client.search_model_versions(f"name = '{versions.name}'"))
    )
    with start_scorer(tmp_path, versions.name, redact="AGE") as server:
        versions.promote(version)
        wait_until(lambda: server.serves(version), "the scorer serves the version with fewer columns")
        expected = server.score(versions.split()).json()
        records = [versions.row, {**versions.row, "SEX": "f"}, {**versions.row, "SEX": [1]}]
        assert server.score({"dataframe_records": records}).json()["predictions"] == expected["predictions"] * 3
        without = {name: value for name, value in versions.row.items() if name not in ("SEX", "AGE", "MARRIAGE")}
        assert server.score({"dataframe_records": [without]}).json() == expected
        versions.promote("1")
        wait_until(lambda: "signature differs" in str(server.health()["refused"]), "version 1 needs more columns")
        assert server.serves(version)
    log = read_log(make_log_url(tmp_path))
    assert log["SEX"].tolist()[:3] == ["2", "2", "f"]
    assert log["SEX"].isna().tolist() == [False, False, False, True, True]
    assert log["MARRIAGE"].notna().sum() == 4
    assert log["AGE"].isna().all()
