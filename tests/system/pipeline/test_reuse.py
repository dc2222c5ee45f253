"""Reuse of finished step runs, and the reasons why a step runs again."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
from mlflow.entities import Run
from rich.console import Console

from pipeline.config import parse_config
from pipeline.execution.runner import StepFailed
from pipeline.execution.single import run_single
from pipeline.reuse.decide import _iter_losses, explain_not_intact
from pipeline.steps import list_steps
from stepkit.processes import find_free_port
from tests.conftest import Experiment, create_experiment
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import PipelineResult, list_pipelines, make_small_forest, run_here, write_small_table
from tests.support.small_data import compose_config

ALL = [step.name for step in list_steps("random_forest")]


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("reuse", tmp_path_factory.mktemp("reuse"))


@pytest.fixture(scope="module")
def run(place: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PipelineResult]:
    """Run the pipeline on one small table in one experiment. Each test sees the runs of the earlier ones."""
    table = write_small_table(tmp_path_factory.mktemp("table"))

    def call(*options: str) -> PipelineResult:
        return run_here(place, f"data.file_url={table}", *make_small_forest(), *options)

    return call


@pytest.fixture(scope="module")
def first(run: Callable[..., PipelineResult]) -> PipelineResult:
    return run()


def get_run_ids(result: PipelineResult) -> dict[str, str]:
    return {name: run.info.run_id for name, run in result.runs.steps.items()}


def find_file(run: Run, artifact: str) -> Path:
    return Path(unquote(urlsplit(run.info.artifact_uri).path)) / artifact


def find_model_folder(place: Experiment, run: Run) -> Path:
    location = place.client.get_logged_model(run.data.tags["model_id"]).artifact_location
    return Path(unquote(urlsplit(location).path))


def test_nothing_changed_nothing_runs(
    place: Experiment, run: Callable[..., PipelineResult], first: PipelineResult
) -> None:
    assert not first.error
    assert set(first.runs.steps) == set(ALL)
    assert "7 ran" in first.said
    before = len(place.client.search_runs([place.id]))
    again = run()
    assert again.states == dict.fromkeys(ALL, "reused")
    assert get_run_ids(again) == get_run_ids(first)
    assert again.runs.parent.info.run_id != first.runs.parent.info.run_id
    assert again.runs.parent.data.metrics == first.runs.parent.data.metrics
    assert len(place.client.search_runs([place.id])) == before + 1, "only the pipeline run is new"


def test_a_version_that_lost_its_alias_is_registered_again(
    run: Callable[..., PipelineResult], place: Experiment, first: PipelineResult
) -> None:
    place.client.delete_registered_model_alias(place.id_name, "champion")
    after = run().states
    assert after.pop("register") == "ran version 1 is no longer the champion"
    assert set(after.values()) == {"reused"}
    assert str(place.client.get_model_version_by_alias(place.id_name, "champion").version) == "2"


def test_another_parameter_runs_its_step_and_those_that_read_its_output(
    run: Callable[..., PipelineResult], place: Experiment, first: PipelineResult
) -> None:
    smaller = run("data.test_size=0.2", f"main.execute_steps=[{','.join(ALL[:-1])}]")
    states = smaller.states
    assert states["segregate"] == "ran test_size 0.3 -> 0.2"
    assert states["random_forest"] == "ran output of segregate changed"
    assert states["evaluate"].startswith("ran output of ")
    assert [states[name] for name in ("download", "preprocess", "check_data")] == ["reused"] * 3
    back = run("main.execute_steps=[download,preprocess,segregate,random_forest]")
    assert set(back.states.values()) == {"reused"}
    # a step that is run alone reads the run that was reused last
    (current,) = place.current("segregate")
    assert current.info.run_id == first.runs.steps["segregate"].info.run_id
    deeper = run("random_forest_pipeline.random_forest.max_depth=6", "main.execute_steps=[segregate,random_forest]")
    assert deeper.states == {"segregate": "reused", "random_forest": "ran random_forest.max_depth 5 -> 6"}


def replace_by_link(path: Path) -> None:
    (path.parent / "target").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(path.parent / "target")


def alter_one_byte(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "has 1,000 bytes"),
        (alter_one_byte, "was altered"),
        (replace_by_link, "was altered"),
    ],
    ids=["deleted", "truncated", "altered", "link"],
)
def test_a_lost_artifact_is_made_anew(
    run: Callable[..., PipelineResult], first: PipelineResult, damage: Callable[[Path], object], why: str
) -> None:
    steps = "main.execute_steps=[download,preprocess,segregate]"
    path = find_file(run(steps).runs.steps["preprocess"], "preprocessed_data.csv")
    body = path.read_bytes()
    damage(path)
    repaired = run(steps)
    assert repaired.states["preprocess"].startswith(f"ran its artifact preprocessed_data.csv {why}")
    assert find_file(repaired.runs.steps["preprocess"], "preprocessed_data.csv").read_bytes() == body
    assert repaired.states["segregate"] == "reused", "the artifact is the same as before"


def test_a_lost_model_is_trained_and_judged_anew(
    run: Callable[..., PipelineResult], place: Experiment, first: PipelineResult
) -> None:
    (find_model_folder(place, first.runs.steps["random_forest"]) / "artifacts" / "model.onnx").unlink()
    repaired = run()
    assert repaired.states["random_forest"] == "ran its artifact artifacts/model.onnx is missing"
    assert repaired.states["evaluate"].startswith("ran ")
    assert repaired.states["register"].startswith("ran ")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (alter_one_byte, "{} was altered"),
        (replace_by_link, "{} was altered"),
        (lambda path: path.with_name("added.py").write_text(""), "{parent}added.py was added"),
        (lambda path: path.rename(path.with_name("moved")), "{} is missing"),
    ],
    ids=["altered", "link", "added", "moved"],
)
@pytest.mark.parametrize("name", ["artifacts/model.onnx", "MLmodel"])
def test_a_model_is_intact_only_if_each_file_is_the_one_that_was_logged(
    place: Experiment, first: PipelineResult, tmp_path: Path, damage: Callable[[Path], object], words: str, name: str
) -> None:
    run = place.current("random_forest")[0]
    folder = find_model_folder(place, run)
    assert explain_not_intact(place.client, run) == ""
    backup = shutil.copytree(folder, tmp_path / "kept")
    damage(folder / name)
    try:
        expected = words.format(name, parent=name.rpartition("artifacts/")[1])
        assert f"its artifact {expected}" in [f"{problem}" for problem in _iter_losses(place.client, run)]
    finally:
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
    assert explain_not_intact(place.client, run) == ""


def test_why_a_step_ran_again_is_told_against_the_same_data_set_and_model(
    run: Callable[..., PipelineResult], first: PipelineResult
) -> None:
    steps = "main.execute_steps=[download,preprocess,segregate]"
    other_data_set = run("data.name=other", steps)
    assert (
        other_data_set.states["preprocess"]
        == f"ran first run of this data set for {first.runs.parent.data.tags['model_name']}"
    )
    again = run("data.test_size=0.4", steps)
    assert again.states["segregate"] == "ran test_size 0.3 -> 0.4"
    run(steps)


def test_a_step_that_fails_is_where_the_next_pipeline_goes_on(
    run: Callable[..., PipelineResult], first: PipelineResult
) -> None:
    failed = run("data.val_size=0.4", "random_forest_pipeline.features.numeric=[NO_SUCH]")
    assert failed.error
    assert "NO_SUCH" in str(failed.error)
    assert failed.states["random_forest"].startswith("failed")
    assert failed.states["evaluate"] == "not run"
    repaired = run("data.val_size=0.4", "main.execute_steps=[download,preprocess,check_data,segregate,random_forest]")
    assert repaired.states["segregate"] == "reused"
    assert "val_size 0.3 -> 0.4" in repaired.states["random_forest"]


def test_reuse_can_be_turned_off_for_all_or_for_one_step(
    run: Callable[..., PipelineResult], first: PipelineResult
) -> None:
    steps = "main.execute_steps=[download,preprocess]"
    off = run("main.reuse=false", steps)
    assert off.states == dict.fromkeys(("download", "preprocess"), "ran main.reuse is false")
    rerun = run("main.rerun=preprocess", steps)
    assert rerun.states == {"download": "reused", "preprocess": "ran main.rerun names it"}


@pytest.mark.parametrize("behaviour", ["etag", "dated", "good"])
def test_a_download_is_reused_while_the_server_names_the_same_version(
    behaviour: str, experiment: Experiment, faulty_server: FaultyServer, tmp_path: Path
) -> None:
    faulty_server.files["clients.csv"] = write_small_table(tmp_path, rows=300).read_bytes()
    path = f"{behaviour}/clients.csv"
    options = [f"data.file_url={faulty_server.url(path)}", "main.execute_steps=[download,preprocess]"]
    run_here(experiment, *options)
    again = run_here(experiment, *options).states
    if behaviour == "good":  # without a version, the next step compares the digest
        assert again == {
            "download": "ran its source has neither an ETag nor a modification time",
            "preprocess": "reused",
        }
        return
    assert again == {"download": "reused", "preprocess": "reused"}
    assert faulty_server.asked[path] == 1
    faulty_server.files["clients.csv"] = write_small_table(tmp_path, seed=2, rows=301).read_bytes()
    changed = run_here(experiment, *options).states
    assert changed["download"].startswith("ran source ")
    assert changed["preprocess"] == "ran output of download changed"


def test_a_changed_file_on_disk_is_downloaded_again(experiment: Experiment, tmp_path: Path) -> None:
    table = write_small_table(tmp_path, rows=300)
    options = [f"data.file_url={table}", "main.execute_steps=download"]
    run_here(experiment, *options)
    table.write_bytes(write_small_table(tmp_path, seed=5, rows=300).read_bytes())
    assert run_here(experiment, *options).states == {"download": "ran source changed"}


@pytest.mark.parametrize("reference", ["runs:/" + "0" * 32 + "/x.csv", "runs:/" + "0" * 32])
def test_a_mistyped_reference_is_told_by_check_data(
    run: Callable[..., PipelineResult], first: PipelineResult, reference: str
) -> None:
    failed = run(f"data.reference_dataset={reference}", "main.execute_steps=[download,preprocess,check_data]")
    assert isinstance(failed.error, StepFailed)
    assert "0" * 32 in str(failed.error)


def test_artifacts_on_a_store_that_does_not_answer_cannot_be_reused(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tracking server still has the run, but its artifacts cannot be reached."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = mlflow.MlflowClient(store)
    away = f"mlflow-artifacts://127.0.0.1:{find_free_port()}/away"
    experiment = client.create_experiment("artifacts away", artifact_location=away)
    run = client.create_run(experiment, tags={"size.raw_data.csv": "10", "output.raw_data.csv": "sha256:1f"})
    problem = explain_not_intact(client, client.get_run(run.info.run_id))
    assert problem.startswith("its artifacts cannot be listed (")


def test_two_pipelines_that_compute_the_same_at_once_both_end_well(experiment: Experiment, tmp_path: Path) -> None:
    where = [f"main.experiment_name='{experiment.name}'", f"data.file_url={write_small_table(tmp_path, rows=300)}"]
    config = parse_config(compose_config(*where, "main.execute_steps=[download,preprocess,segregate]"))
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(run_single, config, Console(file=io.StringIO())) for _ in range(2)]
    assert [task.exception() for task in tasks] == [None, None]
    pipelines = list_pipelines(experiment)
    assert len(pipelines) == 2
    for pipeline in pipelines:
        assert {run.info.status for run in pipeline.steps.values()} == {"FINISHED"}
        assert set(pipeline.steps) == {"download", "preprocess", "segregate"}
    assert all(len(experiment.current(name)) == 1 for name in ("download", "preprocess", "segregate"))
