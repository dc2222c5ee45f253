"""mlflow run ./drift in this process, with a real champion, prediction log and drift experiment."""

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
from drift.compare.inputs import load_scorer
from drift.compare.sources import WatchedVersion, get_watched_version
from prediction_log.labels import write_labels
from prediction_log.read import read_log
from simulate.drifts import simulate_traffic
from stepkit.errors import StepError
from stepkit.store.lineage import parse_run_id
from stepkit.store.model_address import RegisteredVersion
from tests.conftest import Experiment, StepResult, create_experiment
from tests.support.monitored_champion import COLUMNS, ROWS, START, WatchedModel, create_watched_model, format_window
from tests.support.pipelines import make_small_forest, run_here
from tests.support.trained_champion import register_forest

Compare = Callable[..., dict[str, Any]]
ONE_OF_ONE = {"confirm": 1, "of_windows": 1, "retrain_min_rows": 500}


@pytest.fixture(scope="module")
def model(store: str, tmp_path_factory: pytest.TempPathFactory) -> WatchedModel:
    folder = tmp_path_factory.mktemp("watched")
    return create_watched_model(create_experiment("watched", folder), folder)


@pytest.fixture(scope="module")
def windows(model: WatchedModel) -> dict[str, str]:
    """Windows without drift, with drift, with few rows and without rows."""
    empty = START + timedelta(hours=50)
    return {
        "no_drift": model.serve(0),
        "drifted": model.serve(1, "age"),
        "few": model.serve(2, rows=50),
        "empty": format_window(empty, empty + timedelta(hours=1)),
    }


@pytest.fixture
def run_drift(run_step: Callable[..., StepResult], model: WatchedModel) -> Callable[..., StepResult]:
    def call(current: str, **settings: object) -> StepResult:
        parameters = {"reference": model.address, "log_url": model.log_url, "current": current, **settings}
        return run_step("drift", **parameters)

    return call


class SkippedReport:
    """Replaces the Evidently report in tests that do not read it, because drawing takes longer than the rest."""

    def save_html(self, path: str) -> None:
        Path(path).write_text("no report")


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift.compare.evidently_report.build_snapshot", lambda *_: SkippedReport())


@pytest.fixture
def compare(run_drift: Callable[..., StepResult], tmp_path: Path) -> Compare:
    """Compare a window; return the drift.json written to `result`."""

    def call(current: str, **settings: object) -> dict[str, Any]:
        path = tmp_path / "result.json"
        ended = run_drift(current, result=path, **settings)
        assert ended.status == 0, ended.message
        result: dict[str, Any] = json.loads(path.read_text())
        return result

    return call


def list_alarms(result: dict[str, Any]) -> list[str]:
    return [name for name, signal in result["signals"].items() if signal["alarm"]]


def test_a_window_without_drift_has_no_alarms_and_a_complete_run(
    compare: Compare, windows: dict[str, str], experiment: Experiment, model: WatchedModel
) -> None:
    result = compare(windows["no_drift"])
    run = experiment.client.get_run(result["run_id"])
    assert (result["status"], result["dataset_drift"], list_alarms(result)) == ("ok", False, [])
    assert result["decision"]["action"] == run.data.tags["decision"] == "nothing"
    assert result["model"] == {"name": model.name, "version": "1"}
    assert (result["window"]["rows"], result["window"]["labelled"]) == (ROWS, ROWS)
    assert run.info.status == "FINISHED"
    assert run.data.tags["reference"].endswith("data/data_train.csv")
    assert run.data.tags["window_address"] == result["current"]
    assert {f"drift_score.{name}" for name in COLUMNS.names} <= set(run.data.metrics)
    assert {"signal.estimated_auc", "signal.realised_auc", "reference_auc", "drift_share"} <= set(run.data.metrics)
    assert {"signal.psi_score", "threshold.psi_score", "signal.csi", "csi.LIMIT_BAL"} <= set(run.data.metrics)
    assert mlflow.artifacts.load_dict(f"runs:/{result['run_id']}/drift.json") == result
    html = Path(mlflow.artifacts.download_artifacts(result["report"])).read_text()
    assert "LIMIT_BAL" in html
    assert "Dataset Drift is NOT detected" in html
    assert (history.get_page_folder(model.name) / "drift_report.html").read_text() == html


def test_a_drifted_window_names_the_column_and_retrains(compare: Compare, windows: dict[str, str]) -> None:
    result = compare(windows["drifted"], **ONE_OF_ONE)
    (age,) = result["drifted"]
    assert (age["column"], age["test"]) == ("AGE", "Kolmogorov-Smirnov")
    assert age["current_mean"] - age["reference_mean"] == pytest.approx(5, abs=1)
    assert result["decision"]["action"] == "retrain"
    assert result["decision"]["signals"] == ["drift_share"]
    assert "Dataset Drift is detected" in Path(mlflow.artifacts.download_artifacts(result["report"])).read_text()
    assert compare(windows["drifted"], **ONE_OF_ONE) == result, "compared only once"


@pytest.mark.usefixtures("no_report")
def test_a_second_drifted_window_confirms_the_first(
    compare: Compare, windows: dict[str, str], model: WatchedModel
) -> None:
    settings = {"retrain_min_rows": 500}
    assert compare(windows["drifted"], **settings)["decision"]["action"] == "alert"
    second = compare(model.serve(3, "age"), **settings)
    assert second["decision"]["action"] == "retrain"
    assert second["decision"]["reason"] == "drift_share: alarm in 2 of the last 2 windows"


def test_a_repeated_window_returns_the_finished_run(
    compare: Compare, windows: dict[str, str], experiment: Experiment
) -> None:
    first, second = compare(windows["few"]), compare(windows["few"])
    assert second == first
    repeated = [run for run in experiment.runs("drift") if run.data.tags.get("same_as") == first["run_id"]]
    assert [run.info.status for run in repeated] == ["FINISHED"]
    assert compare(windows["few"], alpha=0.01)["run_id"] != first["run_id"]


@pytest.mark.usefixtures("no_report")
def test_a_window_that_ends_in_the_future_is_compared_once_and_confirms_nothing(
    compare: Compare, model: WatchedModel
) -> None:
    settings = {"retrain_min_rows": 500}
    start = datetime.now(UTC) - timedelta(hours=9)
    model.record(start, simulate_traffic(ROWS, 31, "age"))
    until = datetime(2130, 1, 1, tzinfo=UTC)
    first = compare(format_window(start, until), **settings)
    assert compare(format_window(start, until), **settings) == first
    assert first["decision"]["action"] == "alert"
    assert datetime.fromisoformat(first["window"]["to"]) <= datetime.now(UTC)
    again = compare(format_window(start, until + timedelta(days=1)), **settings)
    assert again["run_id"] != first["run_id"]
    assert again["decision"]["action"] == "nothing", "the same rows do not confirm themselves"


@pytest.mark.usefixtures("no_report")
def test_a_corrected_label_makes_another_window(compare: Compare, model: WatchedModel) -> None:
    address = model.serve(13, rows=60)
    first = compare(address)
    start = START + timedelta(hours=13)
    row = read_log(model.log_url, start=start, end=start + timedelta(hours=1), labels=True).iloc[0]
    counts = write_labels(model.log_url, [(row.request_id, row.row, 1 - int(row.label))])
    second = compare(address)
    assert counts.changed == 1
    assert second["run_id"] != first["run_id"]
    assert second["window"]["labelled"] == first["window"]["labelled"]
    assert compare(address) == second


def test_a_run_whose_process_has_ended_is_not_waited_for(
    compare: Compare, windows: dict[str, str], experiment: Experiment
) -> None:
    first = compare(windows["empty"])
    lost = experiment.client.create_run(experiment.id, start_time=1, tags={"window_key": first["window"]["key"]})
    experiment.client.delete_run(first["run_id"])
    second = compare(windows["empty"])
    assert second["run_id"] not in (first["run_id"], lost.info.run_id)
    assert second["window"]["key"] == first["window"]["key"]


@pytest.mark.parametrize(("name", "status", "rows"), [("empty", "empty", 0), ("few", "too_few_rows", 50)])
def test_a_window_with_too_few_rows_is_not_judged(
    compare: Compare, windows: dict[str, str], name: str, status: str, rows: int
) -> None:
    result = compare(windows[name])
    assert (result["status"], result["window"]["rows"], result["report"]) == (status, rows, None)
    assert result["decision"]["action"] == "nothing"


def test_broken_columns_of_a_file_are_reported(compare: Compare, tmp_path: Path) -> None:
    """One window with a missing column, a new one, a constant one and one without values."""
    table = simulate_traffic(ROWS, 7).assign(BILL_AMT1=3, AGE=np.nan, region="north").drop(columns=["PAY_AMT6"])
    path = tmp_path / "broken.csv"
    table.to_csv(path, index=False)
    result = compare(str(path))
    assert result["details"]["columns_gone"] == ["PAY_AMT6"]
    assert result["details"]["columns_new"] == ["region"]
    assert "BILL_AMT1" in [column["column"] for column in result["drifted"]]
    assert [(fault["rule"], fault["column"], fault["current"]) for fault in result["quality"]] == [
        ("missing", "AGE", 1.0)
    ]
    assert {"columns_gone", "missing"} <= set(list_alarms(result))
    assert result["decision"]["action"] == "alert"


ODD_NAMES = ("self", "a//b", "rate%", "rate$", "index", "prediction")


@pytest.mark.parametrize("tests", ["evidently", "sized"])
def test_a_broken_column_does_not_stop_the_others_whatever_their_names(
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
    result = json.loads((tmp_path / "drift.json").read_text(), parse_constant=pytest.fail)
    assert [column["column"] for column in result["columns"]] == list(reference)
    assert [(fault["rule"], fault["column"]) for fault in result["quality"]] == [("missing", "empty")]
    unreadable = [(column["column"], column["kind"], column["first"]) for column in result["details"]["unreadable"]]
    assert unreadable == [("words", "text", [4, 9]), ("endless", "infinite", [2])]
    (run,) = experiment.runs("drift")
    assert sum(name.startswith("drift_score.") for name in run.data.metrics) == len(reference.columns)


@pytest.mark.usefixtures("no_report")
def test_text_in_a_numeric_column_of_a_model_is_reported(compare: Compare, tmp_path: Path) -> None:
    table = simulate_traffic(ROWS, 7).astype({"AGE": object})
    table.loc[7, "AGE"] = "unknown"
    table.to_csv(tmp_path / "words.csv", index=False)
    result = compare(str(tmp_path / "words.csv"))
    assert [(column["column"], column["rows"]) for column in result["details"]["unreadable"]] == [("AGE", 1)]
    assert "score_drift" in result["signals"]


@pytest.mark.usefixtures("no_report")
def test_labels_for_unknown_requests_change_nothing(compare: Compare, model: WatchedModel) -> None:
    address = model.serve(10, rows=60, labels=False)
    counts = write_labels(model.log_url, [("unknown", 0, 1)])
    result = compare(address)
    assert counts.unknown == [("unknown", 0)]
    assert (result["window"]["rows"], result["window"]["labelled"]) == (60, 0)


@pytest.mark.usefixtures("no_report")
def test_rows_from_the_future_are_ignored_and_reported(compare: Compare, model: WatchedModel) -> None:
    start = datetime.now(UTC) - timedelta(seconds=ROWS - 100)
    model.record(start, simulate_traffic(ROWS, 11).iloc[: ROWS - 100])
    model.record(datetime.now(UTC) + timedelta(hours=2), simulate_traffic(20, 12))
    result = compare(format_window(start, start + timedelta(days=1)))
    assert (result["window"]["rows"], result["window"]["future_rows"]) == (ROWS - 100, 20)
    assert "clock" in list_alarms(result)
    newest = compare("log:?rows=100")
    assert (newest["status"], newest["window"]["rows"], newest["window"]["future_rows"]) == ("too_few_rows", 100, 20)
    assert (list_alarms(newest), newest["decision"]["action"]) == (["clock"], "alert")


def test_a_model_without_the_protected_columns_scores_a_file_without_them(
    experiment: Experiment, tmp_path: Path
) -> None:
    rows = register_forest(experiment, tmp_path, depth=2, exclude_protected=True)
    registered = RegisteredVersion(experiment.id_name, "1", "")
    score, inputs = load_scorer(WatchedVersion(registered, COLUMNS, "", ""), tmp_path / "loaded")
    assert inputs == [name for name in COLUMNS.names if name not in COLUMNS.protected]
    scores, same = score(rows[inputs]), score(rows)
    assert scores is not None
    assert same is not None
    assert scores.equals(same)
    assert score(rows[inputs[1:]]) is None


INVALID = {
    "log:?rows=500&version=77": ({}, "BadParameter: .* has no version 77"),
    "log:?row=5": ({}, "BadParameter: .*unknown part 'row'"),
    "log:?from=2130-01-01": ({}, "BadParameter: .*is in the future"),
    "log:?rows=4": ({"alpha": "2"}, "BadParameter: -P alpha"),
    "log:?rows=5": ({"log_url": "postgresql://user@127.0.0.1:1/none"}, "LogUnavailable: "),
    "log:?rows=6": ({"log_url": "sqlite:////none.db"}, "LogUnfit: "),
    "log:?rows=7": ({"reference": "missing.csv"}, "ReferenceMissing: .*missing.csv"),
}


@pytest.mark.parametrize("current", INVALID)
def test_an_invalid_input_gives_one_message(
    run_drift: Callable[..., StepResult],
    experiment: Experiment,
    model: WatchedModel,
    windows: dict[str, str],
    current: str,
) -> None:
    settings, message = INVALID[current]
    ended = run_drift(current, model_name=model.name, **settings)
    assert ended.status == 1
    assert re.match(message, ended.message), ended.message
    # Settings are checked before a run is opened.
    assert [run.info.status for run in experiment.runs("drift")] == ([] if "alpha" in settings else ["FAILED"])


def test_a_url_with_a_password_is_rejected_and_not_recorded(
    run_drift: Callable[..., StepResult], experiment: Experiment
) -> None:
    ended = run_drift("log:?rows=5", log_url="postgresql://me:hidden@127.0.0.1/none")
    assert ended.message.startswith("SecretInAddress: log_url holds a password")
    assert "hidden" not in ended.message
    assert experiment.runs("drift") == []


def test_missing_evidently_gives_one_message_and_no_run(
    run_drift: Callable[..., StepResult], experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift.run.find_spec", lambda name: None)
    ended = run_drift("log:?rows=5")
    assert ended.message.startswith("PackagesMissing: Evidently: not installed")
    assert experiment.runs("drift") == []


def test_deleted_training_data_give_one_message(
    run_drift: Callable[..., StepResult], windows: dict[str, str], model: WatchedModel, tmp_path: Path
) -> None:
    run_id = parse_run_id(get_watched_version(model.experiment.client, model.address).train_url)
    stored = str(model.experiment.client.get_run(run_id).info.artifact_uri).removeprefix("file://")
    train = Path(stored, "data", "data_train.csv")
    moved = shutil.move(train, tmp_path / "moved.csv")
    ended = run_drift(windows["no_drift"])
    shutil.move(moved, train)
    assert ended.message.startswith("ReferenceMissing: runs:/")


def test_a_version_without_training_data_gives_one_message(
    run_drift: Callable[..., StepResult], model: WatchedModel, windows: dict[str, str]
) -> None:
    client = model.experiment.client
    name = f"{model.name}_bare"
    client.create_registered_model(name)
    source = client.get_model_version(model.name, "1").source
    client.create_model_version(name, str(source), client.create_run(model.experiment.id).info.run_id)
    ended = run_drift(windows["no_drift"], reference=f"models:/{name}/1")
    assert ended.status == 1
    assert f"ReferenceMissing: {name} version 1: no recorded training data" in ended.message


def test_labelled_rows_train_a_model(
    model: WatchedModel, windows: dict[str, str], tmp_path: Path, experiment: Experiment
) -> None:
    output = tmp_path / "labelled.parquet"
    line = labelled.write_labelled(make_flags(model, output, labelled_min_rows="1000"))
    table = pd.read_parquet(output)
    assert f"{len(table):,} of" in line
    assert list(table) == [COLUMNS.id_column, *COLUMNS.names, COLUMNS.source_target]
    assert set(table[COLUMNS.source_target]) == {0, 1}
    no_drift = simulate_traffic(ROWS, 100).drop(columns=["ID"])
    first = table.drop(columns=["ID"]).iloc[:ROWS].astype(float)
    pd.testing.assert_frame_equal(first[list(no_drift)], no_drift.astype(float))
    steps = "main.execute_steps=[download,preprocess,check_data,segregate,random_forest]"
    trained = run_here(experiment, f"data.file_url={output}", "data.sha256=[]", steps, *make_small_forest())
    assert trained.error is None
    assert trained.runs.steps["random_forest"].data.tags["model_id"]


def test_predictions_of_another_model_are_not_in_the_window_or_the_table(
    compare: Compare, model: WatchedModel, tmp_path: Path
) -> None:
    start = START + timedelta(hours=15)
    address = model.record(start, simulate_traffic(60, 16))
    replace(model, name="another").record(start, simulate_traffic(70, 17))
    assert compare(address)["window"]["rows"] == 60
    hour = {"from": start.isoformat(), "to": (start + timedelta(hours=1)).isoformat()}
    line = labelled.write_labelled(make_flags(model, tmp_path / "labelled.csv", labelled_min_rows="50", **hour))
    assert "60 of 60 rows have a label" in line


def make_flags(model: WatchedModel, output: Path, **more: str) -> dict[str, str]:
    empty = dict.fromkeys(("from", "to", "rows", "labelled_min_rows"), "")
    return {**empty, "output": str(output), "model_name": model.name, "log_url": model.log_url, **more}


def test_too_few_labels_are_rejected_and_write_no_table(
    model: WatchedModel, windows: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "labelled.parquet"
    with pytest.raises(StepError, match=r"labelled_min_rows: .* expected 1,000,000"):
        labelled.write_labelled(make_flags(model, output, labelled_min_rows="1000000"))
    assert list(tmp_path.iterdir()) == []


def test_the_page_and_the_replay_show_every_window(
    compare: Compare, windows: dict[str, str], experiment: Experiment, model: WatchedModel, tmp_path: Path, capsys: Any
) -> None:
    for name in ("empty", "few"):
        compare(windows[name])
    compare(windows["few"], min_rows=40)
    path = page.write_page(experiment.name, model.name, tmp_path / "page.html")
    text = path.read_text()
    assert page.write_page(experiment.name, model.name, None) == history.get_page_folder(model.name) / "index.html"
    assert "Windows: 2." in text
    assert "http" not in text.replace(get_plotlyjs(), "").replace("http://www.w3.org", "")
    policy = [word for key, value in ONE_OF_ONE.items() for word in (f"--{key}", str(value))]
    replay_project.main(["--experiment", experiment.name, "--model_name", model.name, *policy])
    assert f"{model.name}: windows 2, alerts 0, retrainings 0" in capsys.readouterr().out


def test_evidently_gives_the_known_result_on_the_real_data(real_data: Path, compare: Compare, tmp_path: Path) -> None:
    """With the first 200 rows as reference, 13 of 33 columns drift (share 0.394), by p-values."""
    raw = pd.read_csv(real_data).drop(columns=["ID"]).drop_duplicates().reset_index(drop=True)
    table = pd.get_dummies(raw, columns=["SEX", "EDUCATION", "MARRIAGE"], dtype=int).drop(columns=[raw.columns[-1]])
    assert table.shape == (29_965, 33)
    reference, current = tmp_path / "reference.parquet", tmp_path / "current.parquet"
    table.iloc[:200].to_parquet(reference)
    table.iloc[200:].to_parquet(current)
    result = compare(str(current), reference=str(reference), model_name="none", tests="evidently", drift_share=0.5)
    assert (len(result["drifted"]), len(result["columns"])) == (13, 33)
    assert result["drift_share"] == pytest.approx(0.394, abs=0.0005)
    assert not result["dataset_drift"]
