"""A champion that fails a rule for a model alone gives way to a model that is only as good, unless a user overruled."""

from __future__ import annotations

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from register.models import main as models
from register.promote import main as promote
from tests.conftest import create_experiment
from tests.support.pipelines import write_small_table
from tests.support.registry_story import Line, select_failed_rules

FOREST = {"n_estimators": 10, "max_depth": 6, "class_weight": "balanced", "n_jobs": 1}

EVALUATION = {"gate": {"baselines": None}, "resamples": 100, "importance_rows": 50, "slices": {"columns": {}}}


@pytest.fixture(scope="module")
def line(store: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Version 1 with balanced class weights, without calibration, promoted by hand; then the forest with it."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp("replaced")
    line = Line(create_experiment("replaced", folder), folder)
    line.split(write_small_table(folder, rows=1500))
    train(line, "none")
    judged = evaluate(line)
    line.register()
    assert list(select_failed_rules(line.json(judged, "verdict.json"))) == ["calibration_error"]
    promote(["--model_name", line.name, "--version", "1", "--reason", "we know"])
    train(line, "sigmoid")
    return line


def train(line: Line, calibration: str) -> None:
    config = line.folder / "forest.yaml"
    config.write_text(yaml.safe_dump({"random_forest": FOREST, "calibration": calibration, "threshold": 0.5}))
    line.call("random_forest", model_config=config)


def evaluate(line: Line) -> Run:
    """Judge the current model, with little work for what does not matter here."""
    config = line.folder / "cheap.yaml"
    config.write_text(yaml.safe_dump(EVALUATION))
    return line.evaluate(evaluate_config=config)


def test_a_champion_that_fails_a_rule_stays_only_if_a_user_overruled_that_rule(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line.tags(1)["calibration"] == "none"
    overruled = evaluate(line)
    assert overruled.data.tags["verdict"] == "as_good"

    # In an earlier release the rule did not reject this version.
    line.experiment.client.delete_model_version_tag(line.name, "1", "gate.calibration_error")
    judged = evaluate(line)
    verdict = line.json(judged, "verdict.json")
    assert (judged.data.tags["verdict"], [rule["name"] for rule in verdict["champion_failed"]]) == (
        "passed",
        ["calibration_error"],
    )
    assert "but the champion fails the gate's rule calibration_error: expected" in judged.data.tags["summary"]
    calibration = line.json(judged, "evaluation.json")["calibration"]
    assert calibration["excess"]["value"] == pytest.approx(calibration["error"] - calibration["expected"])

    line.register()
    assert line.aliases == {"challenger": 2, "champion": 2, "previous": 1}
    assert "(the old champion fails calibration_error)" in line.tags(2)["champion_history"]
    assert line.tags(2)["calibration"] == "sigmoid"
    capsys.readouterr()
    models(["--model_name", line.name])
    assert "sigmoid" in capsys.readouterr().out
