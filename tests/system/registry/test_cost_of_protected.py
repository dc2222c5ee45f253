"""Cost of leaving the protected columns out: a second fit on request, compared on the test split."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from stepkit.store.lineage import OUTPUT, WITHOUT_PROTECTED
from tests.conftest import create_experiment
from tests.support.registry_story import Line

SETTINGS = {"random_forest": {"n_jobs": 1, "n_estimators": 30, "max_depth": 5}}


def write_clients(folder: Path, weight: float) -> None:
    """Write clients whose class depends on x, on the town, and with this weight on their sex."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"x": rng.normal(size=3000), "sex": rng.integers(1, 3, 3000)})
    table["town"] = rng.choice(["Taipei", "Tainan"], 3000)
    score = table["x"] + 0.5 * (table["town"] == "Taipei") + weight * (table["sex"] - 1.5)
    table["late"] = (score + rng.normal(size=3000) > 0.8).astype(int)
    table.to_csv(folder / "clients.csv", index=False)
    sex = {"role": "categorical", "values": [1, 2], "label": "Sex", "protected": True}
    columns = {"x": {"type": "float"}, "sex": sex, "town": {"type": "text", "role": "categorical"}}
    description = {"name": "clients", "source_target": "late", "target": "late", "columns": columns}
    (folder / "clients.yaml").write_text(yaml.safe_dump(description))


@pytest.fixture
def line(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Line:
    mlflow.set_tracking_uri(store)
    return Line(create_experiment(request.node.name, tmp_path), tmp_path)


def train(line: Line, **features: object) -> str:
    """Train with the cost of the protected columns; return the id of the run."""
    config = line.folder / "forest.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "features": features}))
    run = line.call("random_forest", model_config=config, cost_of_protected="true", stratify="late")
    assert run.info.status == "FINISHED"
    return str(run.info.run_id)


@pytest.mark.parametrize(("weight", "is_costly"), [(2.0, True), (0.0, False)], ids=["used", "not used"])
def test_the_interval_of_the_cost_is_above_zero_only_if_the_model_uses_the_column(
    line: Line, weight: float, is_costly: bool
) -> None:
    write_clients(line.folder, weight)
    line.split(line.folder / "clients.csv", dataset=str(line.folder / "clients.yaml"), stratify="late")
    train(line)
    cost = line.json(line.evaluate(), "evaluation.json")["cost_of_protected"]
    assert cost["columns"] == ["Sex"]
    assert cost["low"] < cost["value"] < cost["high"]
    assert (cost["low"] > 0) == is_costly

    plain = line.call("random_forest", model_config=line.folder / "forest.yaml", stratify="late")
    assert OUTPUT + WITHOUT_PROTECTED not in plain.data.tags
    assert line.json(line.evaluate(), "evaluation.json")["cost_of_protected"] is None

    without = line.experiment.client.get_run(train(line, exclude_protected=True))
    assert OUTPUT + WITHOUT_PROTECTED not in without.data.tags
