"""A registered champion for tests of serving, created in a second: a small forest, exported like in the step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from preprocess.run import clean_table
from random_forest.run import KIND
from simulate.clients import simulate_clients
from stepkit.paths import ROOT
from stepkit.settings.model import Features, Forest, RandomForestSettings
from stepkit.table.columns import Columns, read_columns
from stepkit.table.tables import to_model_input
from tests.conftest import Experiment, create_experiment
from training.export import export_model

ROWS = 600
DEPTHS = (5, 3)


def make_clients_with_gaps(rows: int, seed: int) -> pd.DataFrame:
    """Return clients to score: ids with leading zeros, missing ages, no target."""
    table = simulate_clients(rows, seed)
    table["ID"] = [f"{number:06d}" for number in range(len(table))]
    table["AGE"] = table["AGE"].astype(float).where(table.index % 7 != 0)
    return table.drop(columns="default payment next month")


@dataclass
class Champion:
    """Registered model with two versions that predict different values, and one row to score; version 1 is champion."""

    experiment: Experiment
    name: str
    row: dict[str, float]

    def split(self, rows: int = 1) -> dict[str, Any]:
        """Return a request with this number of copies of the row."""
        return {"dataframe_split": {"columns": list(self.row), "data": [list(self.row.values())] * rows}}

    def promote(self, version: str, alias: str = "champion") -> None:
        self.experiment.client.set_registered_model_alias(self.name, alias, version)


def register_two_versions(name: str, folder: Path, columns: Columns | None = None) -> Champion:
    """Register two forests of different depth in an experiment with this name; `columns` replaces data/uci.yaml."""
    experiment = create_experiment(name, folder)
    for depth in DEPTHS:
        files = folder / f"depth-{depth}"
        files.mkdir()
        rows = register_forest(experiment, files, depth, columns)
    champion = Champion(
        experiment, experiment.id_name, {str(name): float(value) for name, value in rows.iloc[0].items()}
    )
    champion.promote("1")
    return champion


def register_forest(
    experiment: Experiment, folder: Path, depth: int, columns: Columns | None = None, **features: Any
) -> pd.DataFrame:
    """Register a forest of this depth in an experiment, with these settings of the features; return its rows.

    `columns` replaces data/uci.yaml.
    """
    mlflow.set_experiment(experiment.name)
    columns = columns or read_columns(ROOT / "data" / "uci.yaml")
    table = clean_table(simulate_clients(ROWS, seed=1), columns)
    rows = to_model_input(table, columns)
    forest = Forest(n_estimators=10, max_depth=depth, n_jobs=1)
    settings = RandomForestSettings(random_forest=forest, features=Features(**features))
    fitted = KIND.fit(settings, columns, rows, table[columns.target].to_numpy(int), random_seed=1)
    with mlflow.start_run():
        info, _ = export_model(fitted, settings, columns, table, table, folder, "model_export")
    mlflow.register_model(info.model_uri, experiment.id_name)
    return rows
