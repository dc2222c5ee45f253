"""mlflow run ./drift, step by step in this process: a real champion, a real log, real runs of the drift experiment."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from drift import history, labelled, page
from drift import replay as replay_project
from drift.compare.sources import watched
from prediction_log.labels import write_labels
from prediction_log.read import read_log
from simulate.drifts import simulate_traffic
from stepkit.errors import StepError
from stepkit.store.lineage import parse_run_id
from tests.conftest import Experiment, StepResult, create_experiment
from tests.support.monitored_champion import COLUMNS, ROWS, START, WatchedModel, create_watched_model, format_window
from tests.support.pipelines import make_small_forest, run_here

Look = Callable[..., dict[str, Any]]
ONE_OF_ONE = {"confirm": 1, "of_windows": 1, "retrain_min_rows": 500}


@pytest.fixture(scope="module")
def model(store: str, tmp_path_factory: pytest.TempPathFactory) -> WatchedModel:
    folder = tmp_path_factory.mktemp("watched")
    return create_watched_model(create_experiment("watched", folder), folder)


@pytest.fixture(scope="module")
def windows(model: WatchedModel) -> dict[str, str]:
    """The addresses of an honest hour, a drifted one, and an hour in which nobody asked."""
    empty = START + timedelta(hours=50)
    return {
        "honest": model.serve(0),
        "drifted": model.serve(1, "age"),
        "few": model.serve(2, rows=50),
        "empty": format_window(empty, empty + timedelta(hours=1)),
    }


@pytest.fixture
def run_drift(run_step: Callable[..., StepResult], model: WatchedModel) -> Callable[..., StepResult]:
    def call(current: str, **settings: object) -> StepResult:
        given = {"reference": model.address, "log_url": model.log_url, "current": current, **settings}
        return run_step("drift", **given)

    return call


class Undrawn:
    """Stands in for Evidently's page where nobody looks at it: to draw one takes longer than all that is tested."""

    def save_html(self, path: str) -> None:
        Path(path).write_text("not drawn")


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift.compare.evidently_report.build_snapshot", lambda *_: Undrawn())


@pytest.fixture
def look(run_drift: Callable[..., StepResult], tmp_path: Path) -> Look:
    """Compare a window, and return the drift.json that was written to the path that was asked for."""

    def call(current: str, **settings: object) -> dict[str, Any]:
        result = tmp_path / "result.json"
        ended = run_drift(current, result=result, **settings)
        assert ended.status == 0, ended.message
        found: dict[str, Any] = json.loads(result.read_text())
        return found

    return call


def alarms(found: dict[str, Any]) -> list[str]:
    return [name for name, one in found["signals"].items() if one["alarm"]]


def test_an_honest_window_is_quiet_and_everything_is_on_its_run(
    look: Look, windows: dict[str, str], experiment: Experiment, model: WatchedModel
) -> None:
    found = look(windows["honest"])
    run = experiment.client.get_run(found["run_id"])
    assert (found["status"], found["dataset_drift"], alarms(found)) == ("ok", False, [])
    assert found["decision"]["action"] == run.data.tags["decision"] == "nothing"
    assert found["model"] == {"name": model.name, "version": "1"}
    assert (found["window"]["rows"], found["window"]["labelled"]) == (ROWS, ROWS)
    assert run.info.status == "FINISHED"
    assert run.data.tags["reference"].endswith("data/data_train.csv")
    assert run.data.tags["window_address"] == found["current"]
    assert {f"drift_score.{name}" for name in COLUMNS.names} <= set(run.data.metrics)
    assert {"signal.estimated_auc", "signal.realised_auc", "reference_auc", "drift_share"} <= set(run.data.metrics)
    kept = mlflow.artifacts.load_dict(f"runs:/{found['run_id']}/drift.json")
    assert kept == found
    html = Path(mlflow.artifacts.download_artifacts(found["report"])).read_text()
    assert "LIMIT_BAL" in html
    assert "Dataset Drift is NOT detected" in html
    assert (history.get_page_folder(model.name) / "drift_report.html").read_text() == html


def test_a_drifted_window_says_what_moved_and_retrains(look: Look, windows: dict[str, str]) -> None:
    found = look(windows["drifted"], **ONE_OF_ONE)
    (age,) = found["drifted"]
    assert (age["column"], age["test"]) == ("AGE", "Kolmogorov-Smirnov")
    assert age["current_mean"] - age["reference_mean"] == pytest.approx(5, abs=1)
    assert found["decision"]["action"] == "retrain"
    assert found["decision"]["signals"] == ["drift_share"]
    assert "Dataset Drift is detected" in Path(mlflow.artifacts.download_artifacts(found["report"])).read_text()
    assert look(windows["drifted"], **ONE_OF_ONE) == found, "it is judged once"


@pytest.mark.usefixtures("no_page")
def test_the_second_drifted_window_confirms_the_first_by_the_runs_of_the_experiment(
    look: Look, windows: dict[str, str], model: WatchedModel
) -> None:
    settings = {"retrain_min_rows": 500}
    assert look(windows["drifted"], **settings)["decision"]["action"] == "alert"
    again = look(model.serve(3, "age"), **settings)
    assert again["decision"]["action"] == "retrain"
    assert again["decision"]["reason"] == "drift_share: 2 of the last 2 windows alarm"


def test_the_same_window_again_returns_the_finished_run(
    look: Look, windows: dict[str, str], experiment: Experiment
) -> None:
    first, second = look(windows["few"]), look(windows["few"])
    assert second == first
    repeated = [run for run in experiment.runs("drift") if run.data.tags.get("same_as") == first["run_id"]]
    assert [run.info.status for run in repeated] == ["FINISHED"]
    assert look(windows["few"], alpha=0.01)["run_id"] != first["run_id"]


@pytest.mark.usefixtures("no_page")
def test_a_label_that_was_put_right_makes_it_another_window(look: Look, model: WatchedModel) -> None:
    address = model.serve(13, rows=60)
    first = look(address)
    began = START + timedelta(hours=13)
    asked = read_log(model.log_url, start=began, end=began + timedelta(hours=1), labels=True).iloc[0]
    counts = write_labels(model.log_url, [(asked.request_id, asked.row, 1 - int(asked.label))])
    second = look(address)
    assert counts.changed == 1
    assert second["run_id"] != first["run_id"]
    assert second["window"]["labelled"] == first["window"]["labelled"]
    assert look(address) == second


def test_a_run_of_the_same_window_that_has_lost_its_process_is_not_waited_for(
    look: Look, windows: dict[str, str], experiment: Experiment
) -> None:
    first = look(windows["empty"])
    lost = experiment.client.create_run(experiment.id, start_time=1, tags={"window_key": first["window"]["key"]})
    experiment.client.delete_run(first["run_id"])
    second = look(windows["empty"])
    assert second["run_id"] not in (first["run_id"], lost.info.run_id)
    assert second["window"]["key"] == first["window"]["key"]


@pytest.mark.parametrize(("name", "status", "rows"), [("empty", "empty", 0), ("few", "too_few_rows", 50)])
def test_a_window_that_says_nothing_is_not_judged(
    look: Look, windows: dict[str, str], name: str, status: str, rows: int
) -> None:
    found = look(windows[name])
    assert (found["status"], found["window"]["rows"], found["report"]) == (status, rows, None)
    assert found["decision"]["action"] == "nothing"


def test_broken_columns_of_a_file_end_in_a_clear_state(look: Look, tmp_path: Path) -> None:
    """A column gone, a new one, a constant one, one without any value: one window, each named for what it is."""
    table = simulate_traffic(ROWS, 7).assign(BILL_AMT1=3, AGE=np.nan, region="north").drop(columns=["PAY_AMT6"])
    path = tmp_path / "broken.csv"
    table.to_csv(path, index=False)
    found = look(str(path))
    assert found["details"]["columns_gone"] == ["PAY_AMT6"]
    assert found["details"]["columns_new"] == ["region"]
    assert "BILL_AMT1" in [one["column"] for one in found["drifted"]]
    assert [(one["rule"], one["column"], one["current"]) for one in found["quality"]] == [("missing", "AGE", 1.0)]
    assert {"columns_gone", "missing"} <= set(alarms(found))
    assert found["decision"]["action"] == "alert"


ODD_NAMES = ("self", "a//b", "rate%", "rate$", "index", "prediction")


@pytest.mark.parametrize("tests", ["evidently", "sized"])
def test_one_broken_column_stops_no_other_whatever_they_are_called(
    run_step: Callable[..., StepResult], experiment: Experiment, tmp_path: Path, tests: str
) -> None:
    random = np.random.default_rng(3)
    reference = pd.DataFrame({name: random.normal(size=300) for name in (*ODD_NAMES, "words", "empty", "endless")})
    current = reference.sample(frac=1, random_state=1).reset_index(drop=True)
    current["words"] = current["words"].astype(object)
    current.loc[[4, 9], "words"] = ["unknown", "n/a"]
    current["empty"] = np.nan
    current.loc[[2], "endless"] = np.inf
    paths = {name: tmp_path / f"{name}.csv" for name in ("reference", "current")}
    reference.to_csv(paths["reference"], index=False)
    current.to_csv(paths["current"], index=False)
    ended = run_step("drift", model_name="none", **paths, tests=tests, result=tmp_path / "drift.json")
    assert ended.status == 0, ended.message
    found = json.loads((tmp_path / "drift.json").read_text(), parse_constant=pytest.fail)
    assert [one["column"] for one in found["columns"]] == list(reference)
    assert [(one["rule"], one["column"]) for one in found["quality"]] == [("missing", "empty")]
    unreadable = [(one["column"], one["kind"], one["first"]) for one in found["details"]["unreadable"]]
    assert unreadable == [("words", "text", [4, 9]), ("endless", "infinite", [2])]
    (run,) = experiment.runs("drift")
    assert sum(name.startswith("drift_score.") for name in run.data.metrics) == len(reference.columns)


@pytest.mark.usefixtures("no_page")
def test_text_in_a_column_of_numbers_is_named_where_a_model_is_watched(look: Look, tmp_path: Path) -> None:
    table = simulate_traffic(ROWS, 7).astype({"AGE": object})
    table.loc[7, "AGE"] = "unknown"
    table.to_csv(tmp_path / "words.csv", index=False)
    found = look(str(tmp_path / "words.csv"))
    assert [(one["column"], one["rows"]) for one in found["details"]["unreadable"]] == [("AGE", 1)]
    assert "score_drift" in found["signals"]


@pytest.mark.usefixtures("no_page")
def test_labels_for_unknown_requests_change_nothing(look: Look, model: WatchedModel) -> None:
    address = model.serve(10, rows=60, labels=False)
    counts = write_labels(model.log_url, [("nobody", 0, 1)])
    found = look(address)
    assert counts.unknown == [("nobody", 0)]
    assert (found["window"]["rows"], found["window"]["labelled"]) == (60, 0)


@pytest.mark.usefixtures("no_page")
def test_rows_from_the_future_are_left_out_and_told(look: Look, model: WatchedModel) -> None:
    start = datetime.now(UTC) - timedelta(seconds=ROWS - 100)
    model.record(start, simulate_traffic(ROWS, 11).iloc[: ROWS - 100])
    model.record(datetime.now(UTC) + timedelta(hours=2), simulate_traffic(20, 12))
    found = look(format_window(start, start + timedelta(days=1)))
    assert (found["window"]["rows"], found["window"]["future_rows"]) == (ROWS - 100, 20)
    assert "clock" in alarms(found)


REFUSED = {
    "log:?rows=500&version=77": ({}, "BadParameter: .* has no version 77"),
    "log:?row=5": ({}, "BadParameter: .*unknown part 'row'"),
    "log:?rows=4": ({"alpha": "2"}, "BadParameter: -P alpha"),
    "log:?rows=5": ({"log_url": "postgresql://nobody@127.0.0.1:1/none"}, "LogUnavailable: "),
    "log:?rows=6": ({"log_url": "sqlite:////none.db"}, "LogUnfit: no prediction log at"),
    "log:?rows=7": ({"reference": "gone.csv"}, "ReferenceMissing: .*gone.csv"),
}


@pytest.mark.parametrize("current", REFUSED)
def test_an_input_that_cannot_be_used_is_one_message(
    run_drift: Callable[..., StepResult],
    experiment: Experiment,
    model: WatchedModel,
    windows: dict[str, str],
    current: str,
) -> None:
    settings, message = REFUSED[current]
    ended = run_drift(current, model_name=model.name, **settings)
    assert ended.status == 1
    assert re.match(message, ended.message), ended.message
    # a setting is checked before a run is opened
    assert [run.info.status for run in experiment.runs("drift")] == ([] if "alpha" in settings else ["FAILED"])


def test_an_address_with_a_password_is_refused_and_not_kept(
    run_drift: Callable[..., StepResult], experiment: Experiment
) -> None:
    ended = run_drift("log:?rows=5", log_url="postgresql://me:hidden@127.0.0.1/none")
    assert ended.message.startswith("SecretInAddress: log_url holds a password")
    assert "hidden" not in ended.message
    assert experiment.runs("drift") == []


def test_without_evidently_it_is_one_message_and_no_run(
    run_drift: Callable[..., StepResult], experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift.run.find_spec", lambda name: None)
    ended = run_drift("log:?rows=5")
    assert ended.message.startswith("PackagesMissing: Evidently is not installed here. Type make drift")
    assert experiment.runs("drift") == []


def test_training_data_that_were_deleted_are_one_message(
    run_drift: Callable[..., StepResult], windows: dict[str, str], model: WatchedModel, tmp_path: Path
) -> None:
    run_id = parse_run_id(watched(model.experiment.client, model.address).train_address)
    stored = str(model.experiment.client.get_run(run_id).info.artifact_uri).removeprefix("file://")
    train = Path(stored, "data", "data_train.csv")
    moved = shutil.move(train, tmp_path / "kept.csv")
    ended = run_drift(windows["honest"])
    shutil.move(moved, train)
    assert ended.message.startswith("ReferenceMissing: no table at 'runs:/")


def test_a_version_without_training_data_is_one_message(
    run_drift: Callable[..., StepResult], model: WatchedModel, windows: dict[str, str]
) -> None:
    client = model.experiment.client
    name = f"{model.name}_bare"
    client.create_registered_model(name)
    source = client.get_model_version(model.name, "1").source
    client.create_model_version(name, str(source), client.create_run(model.experiment.id).info.run_id)
    ended = run_drift(windows["honest"], reference=f"models:/{name}/1")
    assert ended.status == 1
    assert f"ReferenceMissing: {name} version 1 has no training data on record" in ended.message


def test_labelled_rows_train_a_model(
    model: WatchedModel, windows: dict[str, str], tmp_path: Path, experiment: Experiment
) -> None:
    output = tmp_path / "labelled.parquet"
    said = labelled.write_labelled(given_to_export(model, output, labelled_min_rows="1000"))
    table = pd.read_parquet(output)
    assert f"{len(table):,} of" in said
    assert list(table) == [COLUMNS.id_column, *COLUMNS.names, COLUMNS.source_target]
    assert set(table[COLUMNS.source_target]) == {0, 1}
    honest = simulate_traffic(ROWS, 100).drop(columns=["ID"])
    first = table.drop(columns=["ID"]).iloc[:ROWS].astype(float)
    pd.testing.assert_frame_equal(first[list(honest)], honest.astype(float))
    steps = "main.execute_steps=[download,preprocess,check_data,segregate,random_forest]"
    trained = run_here(experiment, f"data.file_url={output}", "data.sha256=[]", steps, *make_small_forest())
    assert trained.error is None
    assert trained.runs.steps["random_forest"].data.tags["model_id"]


def test_what_another_model_answered_is_no_part_of_a_window_and_trains_no_model(
    look: Look, model: WatchedModel, tmp_path: Path
) -> None:
    start = START + timedelta(hours=15)
    address = model.record(start, simulate_traffic(60, 16))
    replace(model, name="another").record(start, simulate_traffic(70, 17))
    assert look(address)["window"]["rows"] == 60
    hour = {"from": start.isoformat(), "to": (start + timedelta(hours=1)).isoformat()}
    said = labelled.write_labelled(given_to_export(model, tmp_path / "labelled.csv", labelled_min_rows="50", **hour))
    assert "60 of 60 rows have a label" in said


def given_to_export(model: WatchedModel, output: Path, **more: str) -> dict[str, str]:
    empty = dict.fromkeys(("from", "to", "rows", "labelled_min_rows"), "")
    return {**empty, "output": str(output), "model_name": model.name, "log_url": model.log_url, **more}


def test_too_few_labels_are_refused_and_nothing_is_written(
    model: WatchedModel, windows: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "labelled.parquet"
    with pytest.raises(StepError, match="1,000,000 are needed"):
        labelled.write_labelled(given_to_export(model, output, labelled_min_rows="1000000"))
    assert list(tmp_path.iterdir()) == []


def test_the_page_and_the_replay_show_every_window(
    look: Look, windows: dict[str, str], experiment: Experiment, model: WatchedModel, tmp_path: Path, capsys: Any
) -> None:
    for name in ("empty", "few"):
        look(windows[name])
    look(windows["few"], min_rows=40)
    path = page.write_page(experiment.name, model.name, tmp_path / "page.html")
    text = path.read_text()
    assert page.write_page(experiment.name, model.name, None) == history.get_page_folder(model.name) / "index.html"
    assert "2 windows" in text
    assert "http" not in text.replace(get_plotlyjs(), "").replace("http://www.w3.org", "")
    policy = [word for key, value in ONE_OF_ONE.items() for word in (f"--{key}", str(value))]
    replay_project.main(["--experiment", experiment.name, "--model_name", model.name, *policy])
    assert f"2 windows of {model.name}: 0 alerts, 0 retrainings" in capsys.readouterr().out


def test_evidently_finds_the_known_answer_on_the_real_data(real_data: Path, look: Look, tmp_path: Path) -> None:
    """13 of 33 columns, share 0.394, where the first 200 rows are the reference: a small one is tested by p-values."""
    raw = pd.read_csv(real_data).drop(columns=["ID"]).drop_duplicates().reset_index(drop=True)
    table = pd.get_dummies(raw, columns=["SEX", "EDUCATION", "MARRIAGE"], dtype=int).drop(columns=[raw.columns[-1]])
    assert table.shape == (29_965, 33)
    first, others = tmp_path / "first.parquet", tmp_path / "others.parquet"
    table.iloc[:200].to_parquet(first)
    table.iloc[200:].to_parquet(others)
    found = look(str(others), reference=str(first), model_name="none", tests="evidently", drift_share=0.5)
    assert (len(found["drifted"]), len(found["columns"])) == (13, 33)
    assert found["drift_share"] == pytest.approx(0.394, abs=0.0005)
    assert not found["dataset_drift"]
