"""A champion that cannot be asked, or not about all rows, and a test split that says little: the gate says so."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from stepkit.columns import read_columns
from stepkit.places import ROOT
from stepkit.run import step_run
from tests.conftest import new_experiment
from tests.pipelines import small_table
from tests.registered import Line, failed_rules

FOREST = {"n_estimators": 10, "max_depth": 5}


@pytest.fixture(scope="module")
def line(store: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A champion, and a challenger to be judged."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp("faults")
    found = Line(new_experiment("champion faults", folder), folder)
    found.split(small_table(folder))
    found.version(**FOREST)
    assert found.aliases == {"challenger": 1, "champion": 1}
    found.train(**{**FOREST, "n_estimators": 11})
    return found


def why_rejected(line: Line, judged: Run) -> str:
    """See that the step ended well, and that the only rule that failed is the comparison; return what it says."""
    assert judged.info.status == "FINISHED", judged.data.tags.get("error")
    verdict, found = line.json(judged, "verdict.json"), line.json(judged, "evaluation.json")
    assert (verdict["passed"], verdict["outcome"], verdict["champion_metrics"]) == (False, "rejected", None)
    (reason,) = failed_rules(verdict).values()
    assert found["champion"]["reason_not_compared"] in reason
    assert (found["champion"]["metrics"], found["difference"]) == ({}, {})
    return reason


def files_of_champion(line: Line) -> Path:
    """The folder of the champion's model."""
    run = str(line.experiment.client.get_model_version(line.name, "1").run_id)
    model = line.experiment.client.get_run(run).data.tags["model_id"]
    location = line.experiment.client.get_logged_model(model).artifact_location
    return Path(unquote(urlsplit(location).path))


def test_a_champion_whose_artifact_is_gone_is_no_pass_and_no_crash(line: Line, tmp_path: Path) -> None:
    folder = files_of_champion(line)
    kept = shutil.copytree(folder, tmp_path / "kept")
    shutil.rmtree(folder)
    try:
        reason = why_rejected(line, line.evaluate())
    finally:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    assert "not compared with the champion (version 1)" in reason
    assert "cannot be loaded" in reason


def test_a_champion_whose_file_is_cut_off_is_no_pass_and_no_crash(line: Line) -> None:
    graph = next(files_of_champion(line).rglob("model.onnx"))
    whole = graph.read_bytes()
    graph.write_bytes(whole[:1000])
    try:
        assert "cannot be loaded" in why_rejected(line, line.evaluate())
    finally:
        graph.write_bytes(whole)


def test_a_champion_whose_training_rows_are_gone_is_not_compared_on_another_split(line: Line) -> None:
    known = line.experiment.current("segregate")[0]
    rows = Path(unquote(urlsplit(known.info.artifact_uri).path)) / "data" / "data_train.csv"
    whole = rows.read_bytes()
    line.call("segregate", random_seed=9)
    rows.unlink()
    try:
        assert "nobody can say which rows it was trained on" in why_rejected(line, line.evaluate())
    finally:
        rows.write_bytes(whole)
        line.call("segregate")


def test_rows_that_the_champion_was_trained_on_are_left_out(line: Line) -> None:
    known = pd.read_csv(
        line.experiment.client.download_artifacts(
            line.experiment.current("segregate")[0].info.run_id, "data/data_train.csv"
        )
    )
    other = line.call("segregate", random_seed=9)
    test = pd.read_csv(line.experiment.client.download_artifacts(other.info.run_id, "data/data_test.csv"))
    found = line.json(line.evaluate(), "evaluation.json")
    line.call("segregate")
    shared = len(test.merge(known.drop_duplicates(), how="inner"))
    assert 0 < shared < len(test)
    assert (found["champion"]["rows_excluded"], found["champion"]["rows_compared"]) == (shared, len(test) - shared)
    assert found["rows"] == len(test)
    assert found["difference"]["roc_auc"]["low"] is not None


def test_a_champion_that_takes_a_column_which_the_test_split_lacks_has_another_signature(
    line: Line, tmp_path: Path
) -> None:
    before = line.experiment.current("segregate")[0], line.experiment.current("random_forest")[0]
    uci = yaml.safe_load((ROOT / "data" / "uci.yaml").read_text(encoding="utf-8"))
    uci["columns"].pop("AGE")
    (tmp_path / "uci.yaml").write_text(yaml.safe_dump(uci))
    line.split(small_table(tmp_path, seed=5), str(tmp_path / "uci.yaml"))
    line.train(**FOREST)
    reason = why_rejected(line, line.evaluate())
    assert "another signature: it takes AGE" in reason
    names = {"input_data_run_id": before[0].info.run_id, "input_model_run_id": before[1].info.run_id}
    assert line.evaluate(**names).info.status == "FINISHED"


def test_a_champion_of_another_data_set_is_neither_reference_nor_rival(line: Line, tmp_path: Path) -> None:
    """As when the bundled sample is followed by a table of one's own, whose columns the champion does not know."""
    uci = yaml.safe_load((ROOT / "data" / "uci.yaml").read_text(encoding="utf-8"))
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump({**uci, "name": "ours"}))
    line.split(small_table(tmp_path, seed=5), str(tmp_path / "ours.yaml"))
    line.call("check_data", model_name=line.name)
    said = "the champion (version 1) is of another data set (uci, not ours)"
    assert said in line.experiment.current("check_data")[0].data.tags["summary"]
    line.train(**FOREST)
    judged = line.evaluate()
    assert (judged.data.tags["verdict"], said in judged.data.tags["summary"]) == ("passed", True)
    assert line.json(judged, "evaluation.json")["champion"]["reason_not_compared"] == said


@pytest.mark.parametrize("label", [0, 1])
def test_a_test_split_of_one_class_is_rejected_with_what_could_not_be_computed(line: Line, label: int) -> None:
    columns = read_columns(ROOT / "data" / "uci.yaml")
    run = line.experiment.current("segregate")[0]
    test = pd.read_csv(line.experiment.client.download_artifacts(run.info.run_id, "data/data_test.csv"))
    mlflow.set_experiment(line.experiment.name)
    with step_run(argparse.Namespace(step=f"class_{label}")) as published:
        published.describe(columns)
        published.publish_table(test[test["default"] == label], "data/data_test.csv")
    judged = line.evaluate(input_data_step=f"class_{label}")
    assert judged.info.status == "FINISHED", judged.data.tags.get("error")
    found, verdict = line.json(judged, "evaluation.json"), line.json(judged, "verdict.json")
    assert found["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert found["metrics"]["brier_score"]["value"] > 0
    assert "AUC not computed" in failed_rules(verdict)["roc_auc"]
    assert verdict["outcome"] == "rejected"
    line.register()
    newest = line.aliases["challenger"]
    assert (line.tags(newest)["test_auc"], line.aliases["champion"]) == ("not computed", 1)
