"""A column that holds the label stops the gate, until the description of the data set lists it as checked."""

from __future__ import annotations

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from simulate.clients import simulate_clients
from stepkit.paths import ROOT
from stepkit.store.lineage import SUMMARY
from tests.conftest import create_experiment
from tests.support.registry_story import Line, select_failed_rules

TARGET = "default payment next month"
LEAK = "BILL_AMT6"


@pytest.fixture(scope="module")
def line(store: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Table whose last bill is 0 for all clients who pay."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp("leakage")
    table = simulate_clients(600, 1)
    table[LEAK] = table[LEAK].abs().add(1).where(table[TARGET] == 1, 0)
    table.to_csv(folder / "clients.csv", index=False)
    return Line(create_experiment("leakage", folder), folder)


def split(line: Line, checked: list[str]) -> Run:
    """Check and split the table under a description that lists these columns; return the run of check_data."""
    description = yaml.safe_load((ROOT / "data" / "uci.yaml").read_text(encoding="utf-8"))
    path = line.folder / "clients.yaml"
    path.write_text(yaml.safe_dump({**description, "leakage_checked": checked}))
    line.split(line.folder / "clients.csv", dataset=str(path))
    return line.call("check_data", model_name=line.name)


def test_the_gate_rejects_a_model_with_a_leaking_column_until_it_is_checked(line: Line) -> None:
    warning = f"possible leakage, ROC AUC of one column alone: {LEAK} (1.000)"
    check = split(line, [])
    assert f"; warning: {warning}" in check.data.tags[SUMMARY]
    assert line.table(check, "leakage.csv").to_dict("records") == [{"column": LEAK, "auc": 1.0, "checked": False}]
    line.train(n_estimators=10, max_depth=5)
    rejected = line.evaluate()
    assert warning in rejected.data.tags[SUMMARY]
    assert "leakage" in select_failed_rules(line.json(rejected, "verdict.json"))

    assert "warning" not in split(line, [LEAK]).data.tags[SUMMARY]
    passed = line.evaluate()
    assert "leakage" not in select_failed_rules(line.json(passed, "verdict.json"))
    baselines = line.json(passed, "evaluation.json")["baselines"]
    assert [result["name"] for result in baselines["results"]] == ["single_column", "logistic_regression"]
    assert baselines["results"][0]["roc_auc"]["value"] == 1.0
    assert baselines["suspicions"] == [{"column": LEAK, "auc": 1.0, "checked": True}]
