"""Store and artifacts are in one folder after any first command, for any path, and after a move."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.launch.backend import Launcher
from stepkit.paths import ROOT, make_sqlite_url
from stepkit.store import tracking
from tests.support.prediction_logs import query_database

HOSTILE = "set #1/it's a?b ü; x&y"


@pytest.fixture(autouse=True)
def tracking_uri_of_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    yield
    mlflow.set_tracking_uri(before)


def run_make_models(root: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command of `make models` in a new checkout. The first command creates the store."""
    for part in ("stepkit", "register"):
        shutil.copytree(ROOT / part, root / part)
    command = [sys.executable, "-P", "models.py"]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "..", "PYTHONDONTWRITEBYTECODE": "1", **env}
    return subprocess.run(command, cwd=root / "register", env=env, capture_output=True, text=True, timeout=120)


def test_the_first_command_makes_store_and_artifacts_in_the_root_of_a_checkout(tmp_path: Path) -> None:
    root = tmp_path / HOSTILE
    encoded = tmp_path / "set%20%231" / "it%27s%20a%3Fb%20%C3%BC%3B%20x%26y"
    encoded.mkdir(parents=True)  # `mlflow run` creates this folder
    # MLflow's command line encodes the path
    ended = run_make_models(root, {"MLFLOW_TRACKING_URI": f"sqlite:///{encoded}/mlflow.db"})
    assert "no registered model" in ended.stderr
    store = make_sqlite_url(root / "mlflow.db")
    assert query_database(store, "SELECT artifact_location FROM experiments") == [(f"{root}/mlruns/0",)]
    assert {path.name for path in root.iterdir()} == {"stepkit", "register", "mlflow.db"}
    assert [path.name for path in tmp_path.iterdir()] == ["set #1"]


def test_a_path_with_a_percent_sign_is_rejected_by_the_first_command(tmp_path: Path) -> None:
    root = tmp_path / "feature%2Fx"
    ended = run_make_models(root, {})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"BadParameter: {root}: MLflow cannot use a path with '%'" in ended.stderr
    assert [*tmp_path.iterdir(), *sorted(root.iterdir())] == [root, root / "register", root / "stepkit"]


def test_a_moved_store_is_used_in_its_new_place_and_the_old_one_stays_away(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new #2"
    old.mkdir()
    tracking.connect(make_sqlite_url(old / "mlflow.db"))
    experiment = MlflowClient().create_experiment("e")
    done = MlflowClient().create_run(experiment).info.run_id
    MlflowClient().log_text(done, "text", "a.txt")
    MlflowClient().set_terminated(done)
    old.rename(new)
    # `mlflow run` creates its run before it starts the project
    begun = MlflowClient(make_sqlite_url(new / "mlflow.db")).create_run(experiment).info.run_id
    tracking.connect(make_sqlite_url(new / "mlflow.db"))
    for run in (begun, MlflowClient().create_run(experiment).info.run_id):
        MlflowClient().log_text(run, "text", "b.txt")
        assert (new / "mlruns" / experiment / run / "artifacts" / "b.txt").is_file()
    assert mlflow.artifacts.load_text(f"runs:/{done}/a.txt") == "text"
    assert not old.exists()


def test_a_step_starts_in_a_folder_with_a_special_name(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE / "step"
    folder.mkdir(parents=True)
    (folder / "MLproject").write_text("name: s\nentry_points:\n  main:\n    command: pwd > place\n")
    tracking.connect(make_sqlite_url(tmp_path / "mlflow.db"))
    step = Launcher("0", "local", warm=False).launch(folder, {}, "s", tmp_path / "log", {})
    assert step.process.wait() == 0, (tmp_path / "log").read_text()
    assert (folder / "place").read_text().strip() == str(folder)
