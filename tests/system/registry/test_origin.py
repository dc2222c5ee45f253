"""Origin of a version in the proof of an answer: digests of its files, its data and its lock, and its commit."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow

from serve.audit.proof import compute_digest, find_origin, is_proven
from serve.model.fetch_model import fetch_model
from simulate.clients import simulate_clients
from stepkit.files import compute_sha256
from stepkit.paths import ROOT, to_artifact_path
from stepkit.store.lineage import OUTPUT
from tests.conftest import create_experiment
from tests.support.registry_story import Line

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_origin_names_the_digests_and_an_altered_file(store: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(store)
    simulate_clients(600, 1).to_csv(tmp_path / "clients.csv", index=False)
    line = Line(create_experiment("origin", tmp_path), tmp_path)
    split = line.split(tmp_path / "clients.csv")
    trained = line.train(n_estimators=5, max_depth=3)
    client = line.experiment.client
    client.set_tag(trained.info.run_id, "mlflow.source.git.commit", COMMIT)  # `mlflow run` sets it
    line.evaluate()
    line.register()
    _, model = fetch_model(f"models:/{line.name}/1")

    origin = find_origin(model)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{line.name}/1", dst_path=str(tmp_path)))
    files = origin["model"]["files"]
    assert files["artifacts/model.onnx"] == compute_sha256(folder / "artifacts" / "model.onnx")
    assert origin["model"]["digest"] == compute_digest(files)
    assert origin["model"]["training_run_id"] == trained.info.run_id
    assert origin["model"]["threshold"] == trained.data.metrics["threshold"]
    assert origin["training_data"] == {"data_set": "uci", "digest": split.data.tags[f"{OUTPUT}data/data_train.csv"]}
    assert origin["code"]["lock"] == f"sha256:{compute_sha256(ROOT / 'requirements' / 'run.lock')}"
    assert origin["code"]["git_commit"] == COMMIT
    assert origin["model"]["altered"] == []

    stored = to_artifact_path(client.get_logged_model(trained.data.tags["model_id"]).artifact_location)
    assert stored is not None
    settings = stored / "artifacts" / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "threshold": 0.9}))
    altered = find_origin(model)
    assert altered["model"]["altered"] == ["artifacts/settings.json was altered"]
    assert not is_proven({"replay": {"result": "equal"}, **altered})
