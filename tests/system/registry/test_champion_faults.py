"""The gate reports a champion that cannot be compared, or not on all rows, and a test split that is too small."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from register.promote import main as promote
from stepkit.paths import ROOT
from stepkit.step.run import step_run
from stepkit.store.lineage import find_upstream
from stepkit.table.columns import read_columns
from tests.conftest import create_experiment
from tests.support.pipelines import write_small_table
from tests.support.registry_story import Line, select_failed_rules

GONE = "0" * 32
"""The id of a run that no store holds."""

FOREST = {"n_estimators": 10, "max_depth": 5}


@pytest.fixture(scope="module")
def line(store: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Champion, and a challenger that has not been judged yet."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp("faults")
    line = Line(create_experiment("champion faults", folder), folder)
    line.split(write_small_table(folder))
    line.version(**FOREST)
    assert line.aliases == {"challenger": 1, "champion": 1}
    line.train(**{**FOREST, "n_estimators": 11})
    return line


def explain_rejection(line: Line, judged: Run) -> str:
    """Verify that the run finished and that only the comparison failed; return the reason of that rule."""
    assert judged.info.status == "FINISHED", judged.data.tags.get("error")
    verdict, evaluation = line.json(judged, "verdict.json"), line.json(judged, "evaluation.json")
    assert (verdict["passed"], verdict["outcome"], verdict["champion_metrics"]) == (False, "rejected", None)
    (reason,) = select_failed_rules(verdict).values()
    assert evaluation["champion"]["reason_not_compared"] in reason
    assert (evaluation["champion"]["metrics"], evaluation["difference"]) == ({}, {})
    return reason


def to_path(address: str | None) -> Path:
    return Path(unquote(urlsplit(str(address)).path))


def find_model_folder(line: Line, run: Run) -> Path:
    """Return the folder of the model that a run logged."""
    return to_path(line.experiment.client.get_logged_model(run.data.tags["model_id"]).artifact_location)


def get_champion_run(line: Line) -> Run:
    return line.experiment.client.get_run(str(line.experiment.client.get_model_version(line.name, "1").run_id))


@contextmanager
def replace_content(file: Path, content: bytes | None) -> Iterator[None]:
    """Replace the content of a file, or delete the file for None, until the end of the block."""
    original = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize(("file", "size"), [("MLmodel", None), ("model.onnx", 1000)], ids=["deleted", "cut off"])
def test_a_champion_with_a_damaged_file_is_no_pass_and_no_crash(line: Line, file: str, size: int | None) -> None:
    damaged = next(find_model_folder(line, get_champion_run(line)).rglob(file))
    with replace_content(damaged, damaged.read_bytes()[:size] if size else None):
        reason = explain_rejection(line, line.evaluate())
    assert "not compared with the champion (version 1)" in reason
    assert "cannot be loaded" in reason


def test_a_model_that_was_altered_since_it_was_logged_is_not_judged(line: Line) -> None:
    run = line.experiment.current("random_forest")[0]
    graph = next(find_model_folder(line, run).rglob("model.onnx"))
    content = graph.read_bytes()
    with replace_content(graph, content[:-1] + bytes([content[-1] ^ 1])):
        judged = line.evaluate()
    line.experiment.client.delete_tag(run.info.run_id, "damaged")
    assert judged.info.status == "FAILED"
    assert "ArtifactDamaged: " in judged.data.tags["error"]
    assert "artifacts/model.onnx was altered. Run random_forest again." in judged.data.tags["error"]


def explain_unknown_rows(line: Line, judged: Run) -> str:
    """Verify that the champion was compared on all rows; return the verdict's note on its training rows."""
    evaluation = line.json(judged, "evaluation.json")
    assert judged.info.status == "FINISHED", judged.data.tags.get("error")
    assert (evaluation["champion"]["rows_excluded"], evaluation["champion"]["rows_compared"]) == (0, evaluation["rows"])
    assert evaluation["difference"]["roc_auc"]["low"] is not None
    unknown = str(evaluation["champion"]["rows_unknown"])
    rules = [rule["reason"] for rule in line.json(judged, "verdict.json")["rules"]]
    assert any(f"may have been trained on some of these rows ({unknown})" in reason for reason in rules)
    return unknown


def test_a_champion_whose_training_rows_are_gone_is_compared_on_all_rows_of_another_split(line: Line) -> None:
    training_split = line.experiment.current("segregate")[0]
    line.call("segregate", random_seed=9)
    with replace_content(to_path(training_split.info.artifact_uri) / "data" / "data_train.csv", None):
        assert "data/data_train.csv is missing or altered" in explain_unknown_rows(line, line.evaluate())
    line.call("segregate")


def test_rows_that_the_champion_was_trained_on_are_left_out(line: Line) -> None:
    trained_on = line.table(line.experiment.current("segregate")[0], "data/data_train.csv")
    test = line.table(line.call("segregate", random_seed=9), "data/data_test.csv")
    evaluation = line.json(line.evaluate(), "evaluation.json")
    line.call("segregate")
    shared = len(test.merge(trained_on.drop_duplicates(), how="inner"))
    assert 0 < shared < len(test)
    assert (evaluation["champion"]["rows_excluded"], evaluation["champion"]["rows_compared"]) == (
        shared,
        len(test) - shared,
    )
    assert evaluation["rows"] == len(test)
    assert evaluation["difference"]["roc_auc"]["low"] is not None


def test_a_champion_that_takes_a_column_which_the_test_split_lacks_has_another_signature(
    line: Line, tmp_path: Path
) -> None:
    before = line.experiment.current("segregate")[0], line.experiment.current("random_forest")[0]
    uci = yaml.safe_load((ROOT / "data" / "uci.yaml").read_text(encoding="utf-8"))
    uci["columns"].pop("AGE")
    (tmp_path / "uci.yaml").write_text(yaml.safe_dump(uci))
    line.split(write_small_table(tmp_path, seed=5), str(tmp_path / "uci.yaml"))
    line.train(**FOREST)
    assert "another signature: it needs column AGE" in explain_rejection(line, line.evaluate())
    names = {"input_data_run_id": before[0].info.run_id, "input_model_run_id": before[1].info.run_id}
    assert line.evaluate(**names).info.status == "FINISHED"


def test_a_champion_of_another_data_set_is_neither_reference_nor_rival(line: Line, tmp_path: Path) -> None:
    """For example the user's own table after the bundled sample, with columns that the champion does not have."""
    uci = yaml.safe_load((ROOT / "data" / "uci.yaml").read_text(encoding="utf-8"))
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump({**uci, "name": "ours"}))
    line.split(write_small_table(tmp_path, seed=5), str(tmp_path / "ours.yaml"))
    line.call("check_data", model_name=line.name)
    reason = "the champion (version 1) is of another data set (uci, not ours)"
    assert reason in line.experiment.current("check_data")[0].data.tags["summary"]
    line.train(**FOREST)
    judged = line.evaluate()
    assert line.json(judged, "evaluation.json")["champion"]["reason_not_compared"] == reason
    verdict = line.json(judged, "verdict.json")
    assert (verdict["outcome"], verdict["data_set"]) == ("rejected", "ours")
    assert list(select_failed_rules(verdict)) == ["data_set"]
    assert "register.replace_data_set=true" in select_failed_rules(verdict)["data_set"]

    asked_for = line.evaluate(replace_data_set="true")
    assert asked_for.data.tags["verdict"] == "passed"
    line.register()
    assert line.aliases["champion"] == 1, "register asks for the key too"
    assert line.tags(line.aliases["challenger"])["data_set"] == "ours"
    client = line.experiment.client
    client.set_model_version_tag(line.name, "1", "data_set_synthetic", "true")
    try:
        assert line.evaluate().data.tags["verdict"] == "passed", "a synthetic champion gives way"
        line.call("register", model_name=line.name)
        moved = line.aliases
        assert moved["champion"] == moved["challenger"]
        promote(["--model_name", line.name, "--version", "1", "--reason", "by hand"])
        assert line.evaluate().data.tags["verdict"] == "rejected", "unless a person has put it there"
    finally:
        client.delete_model_version_tag(line.name, "1", "data_set_synthetic")


@pytest.fixture
def by_hand(line: Line, tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Return a function that registers the champion's files by hand, with a run id in MLmodel and on the version."""
    client, source = line.experiment.client, find_model_folder(line, get_champion_run(line))

    def register(noted: str, run_id: str) -> None:
        folder = Path(shutil.copytree(source, tmp_path / "copied"))
        about = yaml.safe_load((folder / "MLmodel").read_text())
        (folder / "MLmodel").write_text(yaml.safe_dump({**about, "run_id": noted or about["run_id"]}))
        version = client.create_model_version(line.name, folder.as_uri(), run_id or None)
        client.set_registered_model_alias(line.name, "champion", version.version)

    yield register
    client.set_registered_model_alias(line.name, "champion", "1")


def test_files_registered_by_hand_are_compared_by_the_lineage_that_they_note(
    line: Line, by_hand: Callable[[str, str], None]
) -> None:
    line.split(write_small_table(line.folder, seed=6))
    line.train(**FOREST)
    by_hand("", "")
    line.call("check_data", model_name=line.name)
    assert "largest KS distance" in line.experiment.current("check_data")[0].data.tags["summary"]
    evaluation = line.json(line.evaluate(), "evaluation.json")
    assert (evaluation["champion"]["rows_unknown"], evaluation["champion"]["rows_compared"] > 0) == (None, True)


@pytest.mark.parametrize(("noted", "run_id"), [(GONE, ""), (GONE, GONE)], ids=["files", "deleted run"])
def test_a_champion_without_lineage_is_compared_and_what_is_unknown_is_said(
    line: Line, by_hand: Callable[[str, str], None], noted: str, run_id: str
) -> None:
    by_hand(noted, run_id)
    assert f"its training run ({GONE})" in explain_unknown_rows(line, line.evaluate())
    checked = line.call("check_data", model_name=line.name)
    assert checked.info.status == "FAILED"
    assert "data.reference_dataset=none" in checked.data.tags["error"]
    assert line.call("check_data", model_name=line.name, reference_artifact="none").info.status == "FINISHED"


def test_a_reference_whose_file_is_gone_names_the_way_out(line: Line) -> None:
    client = line.experiment.client
    behind = find_upstream(client, get_champion_run(line).info.run_id, "preprocessed_data.csv")
    line.split(write_small_table(line.folder, seed=7))
    with replace_content(to_path(client.get_run(str(behind)).info.artifact_uri) / "preprocessed_data.csv", None):
        checked = line.call("check_data", model_name=line.name)
    assert checked.info.status == "FAILED"
    assert "ArtifactMissing: reference: " in checked.data.tags["error"]
    assert "data.reference_dataset=none" in checked.data.tags["error"]


def test_a_model_is_registered_when_the_run_of_its_download_was_deleted_for_good(line: Line) -> None:
    line.split(write_small_table(line.folder, seed=8))
    line.train(**FOREST)
    line.evaluate()
    client = line.experiment.client
    run_id = line.experiment.current("download")[0].info.run_id
    client.delete_run(run_id)
    client._tracking_client.store._hard_delete_run(run_id)  # as `mlflow gc` does
    registered = line.register()
    assert registered.info.status == "FINISHED", registered.data.tags.get("error")
    tags = line.tags(line.aliases["challenger"])
    assert (tags["data_source"], tags["data_set"]) == ("unknown", "uci")


@pytest.mark.parametrize("label", [0, 1])
def test_a_test_split_of_one_class_is_rejected_with_what_could_not_be_computed(line: Line, label: int) -> None:
    columns = read_columns(ROOT / "data" / "uci.yaml")
    run = line.experiment.current("segregate")[0]
    test = line.table(run, "data/data_test.csv")
    mlflow.set_experiment(line.experiment.name)
    with step_run(argparse.Namespace(step=f"class_{label}")) as published:
        published.set_columns(columns)
        published.publish_table(test[test["default"] == label], "data/data_test.csv")
    judged = line.evaluate(input_data_step=f"class_{label}")
    assert judged.info.status == "FINISHED", judged.data.tags.get("error")
    evaluation, verdict = line.json(judged, "evaluation.json"), line.json(judged, "verdict.json")
    assert evaluation["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert evaluation["metrics"]["brier_score"]["value"] > 0
    assert "ROC AUC not computed" in select_failed_rules(verdict)["roc_auc"]
    assert verdict["outcome"] == "rejected"
    line.register()
    newest = line.aliases["challenger"]
    assert (line.tags(newest)["test_auc"], line.aliases["champion"]) == ("not computed", 1)
