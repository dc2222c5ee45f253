"""plain: a table of clients -> model.onnx, metrics.json, plots, CSVs, in one process and without tracking.

What one straight script takes for the work of the pipeline: the measure of what the pipeline costs on top. It imports
what the steps compute with, wherever that does not load MLflow, and writes the rest out in pandas and skl2onnx;
speed.py compares its AUC with the pipeline's, to the last digit. Of the model it keeps the graph only, and it takes
tables of numbers only.

Run from the repository root: PYTHONPATH=. python benchmarks/plain.py TABLE data/uci.yaml FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import yaml
from matplotlib.figure import Figure
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline

from check_data.checks import Checked, run_checks
from evaluate.bootstrap import Scored
from evaluate.measure import Assessed, assess, report
from evaluate.plots import pictures
from random_forest.pipeline import FOREST, build, features_of, importances
from stepkit.model import plots
from stepkit.model.metrics import scores
from stepkit.model.threshold import chosen_threshold
from stepkit.settings.evaluate import read_evaluation
from stepkit.settings.model import ModelSettings
from stepkit.strict_json import write_json
from stepkit.table.columns import Columns, read_columns
from stepkit.table.split import split
from stepkit.table.tables import as_model_input, read_table, sha256_of, with_column

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
MODEL_CONFIG = yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text(encoding="utf-8"))
EVALUATION = read_evaluation(ROOT / "config.yaml")
SEED = CONFIG["main"]["random_seed"]
LARGEST_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Prepared:
    """What every fit starts from: the columns and three disjoint parts of the table."""

    columns: Columns
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame

    def rows_of(self, part: pd.DataFrame) -> pd.DataFrame:
        return as_model_input(part, self.columns)

    def labels_of(self, part: pd.DataFrame) -> np.ndarray:
        return part[self.columns.target].to_numpy(dtype=int)


@dataclass(frozen=True)
class Fitted:
    """A fitted pipeline, its graph, and what it says of the validation rows."""

    model: Pipeline
    graph: bytes
    session: onnxruntime.InferenceSession
    probability: np.ndarray
    threshold: float
    metrics: dict[str, float]


def tidy(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the input columns as doubles and the target as 0 and 1, without id, duplicates and empty rows."""
    without_id = raw.drop(columns=[columns.id_column or ""], errors="ignore")
    kept = without_id.dropna(how="all").drop_duplicates(ignore_index=True)
    target = kept[columns.source_target].map(columns.classes).astype(int)
    return with_column(kept[columns.names].astype(float), columns.target, target)


def check(table: pd.DataFrame, columns: Columns, folder: Path) -> None:
    """Run the data tests; a first run has no reference, in the pipeline as here."""
    checked = run_checks(Checked(table, columns, None, "no reference", CONFIG["data"]["ks_alpha"]))
    pd.DataFrame(checked.outcomes).to_csv(folder / "data_checks.csv", index=False)
    if checked.failures:
        raise SystemExit(f"data checks failed: {checked.failures}")


def prepare(table: Path, dataset: Path, folder: Path) -> Prepared:
    """Read, tidy, check and split the table; write what the steps hand on."""
    columns = read_columns(dataset)
    (folder / "sha256.txt").write_text(sha256_of(table) + "\n")
    clean = tidy(read_table(table), columns)
    check(clean, columns, folder)
    train, test = split(clean, CONFIG["data"]["test_size"], columns.target, SEED)
    for part, name in ((clean, "preprocessed_data"), (train, "data_train"), (test, "data_test")):
        part.to_csv(folder / f"{name}.csv", index=False)
    fitting, validation = split(train, CONFIG["data"]["val_size"], columns.target, SEED)
    return Prepared(columns, fitting, validation, test)


def answers(session: onnxruntime.InferenceSession, rows: pd.DataFrame) -> np.ndarray:
    """Return the graph's (n, 2) probabilities for n rows."""
    inputs = {name.name: rows[name.name].to_numpy(np.float32).reshape(-1, 1) for name in session.get_inputs()}
    probabilities: np.ndarray = session.run(["probabilities"], inputs)[0]
    return probabilities


def fit(prepared: Prepared, settings: ModelSettings) -> Fitted:
    """Fit, score the validation rows, convert, and see that the graph answers them as scikit-learn does."""
    model = build(settings, prepared.columns, SEED)
    model.fit(prepared.rows_of(prepared.train), prepared.labels_of(prepared.train))
    rows = prepared.rows_of(prepared.validation)
    both = model.predict_proba(rows)
    probability = both[:, 1]
    labels = prepared.labels_of(prepared.validation)
    threshold = chosen_threshold(settings.threshold, labels, probability, EVALUATION.costs)
    found = scores(labels, probability, probability >= threshold)
    types = [(name, FloatTensorType([None, 1])) for name in features_of(settings.features, prepared.columns)]
    options = {id(model.named_steps[FOREST]): {"zipmap": False}}
    graph = to_onnx(model, initial_types=types, options=options).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    if not np.abs(answers(session, rows) - both).max() < LARGEST_DIFFERENCE:
        raise SystemExit("the graph does not answer as scikit-learn does")
    return Fitted(model, graph, session, probability, threshold, found)


def settings_of(point: dict[str, Any]) -> ModelSettings:
    """The configured settings with those of `point` in the forest."""
    return ModelSettings.model_validate({**MODEL_CONFIG, "random_forest": {**MODEL_CONFIG["random_forest"], **point}})


def train_and_evaluate(prepared: Prepared, folder: Path) -> dict[str, float]:
    """Do the rest of the pipeline's work in `folder`; return the metrics of both splits."""
    settings = settings_of({})
    fitted = fit(prepared, settings)
    (folder / "model.onnx").write_bytes(fitted.graph)
    draw(prepared, fitted, folder)
    assessed = evaluate(prepared, fitted, folder)
    found = {f"test_{name}": value for name, value in assessed.values.items()}
    return {**{f"val_{name}": value for name, value in fitted.metrics.items()}, **found}


def evaluate(prepared: Prepared, fitted: Fitted, folder: Path) -> Assessed:
    """Measure the model on the test split as the step does, and write what it publishes; there is no champion."""

    def predict(rows: pd.DataFrame) -> np.ndarray:
        return answers(fitted.session, rows)[:, 1].astype(float)

    probability = predict(prepared.rows_of(prepared.test))
    predicted = (probability >= fitted.threshold).astype(int)
    scored = Scored(prepared.labels_of(prepared.test), probability, predicted)
    assessed = assess(scored, prepared.test, predict, prepared.columns, EVALUATION, SEED)
    found = report(assessed, fitted.threshold, EVALUATION, SEED)
    (folder / "evaluation.json").write_text(write_json(found))
    for name, figure in pictures(assessed, fitted.threshold):
        save(figure, folder / name)
    return assessed


def draw(prepared: Prepared, fitted: Fitted, folder: Path) -> None:
    importance = importances(fitted.model)
    importance.to_csv(folder / "feature_importance.csv", header=["importance"], index_label="feature")
    save(plots.feature_importance(importance, "Feature importance"), folder / "feature_importance.png")
    labels = prepared.labels_of(prepared.validation)
    matrix = plots.confusion_matrix(labels, fitted.probability >= fitted.threshold, "Validation split")
    save(matrix, folder / "confusion_matrix_validation.png")


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120, bbox_inches="tight")


def seconds_of(prepared: Prepared, point: dict[str, Any]) -> float:
    """Return how long fitting, converting and scoring one point takes."""
    began = time.perf_counter()
    fit(prepared, settings_of(point))
    return time.perf_counter() - began


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("dataset", type=Path, help="data/NAME.yaml, which describes the table")
    parser.add_argument("folder", type=Path, help="where everything is written")
    parser.add_argument(
        "--points", type=json.loads, help='forest settings, e.g. [{"n_estimators": 10}]: seconds of each'
    )
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(args.table, args.dataset, args.folder)
    if args.points:
        print(json.dumps([seconds_of(prepared, point) for point in args.points]))
        return
    found = train_and_evaluate(prepared, args.folder)
    (args.folder / "metrics.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"test AUC {found['test_roc_auc']:.4f}")


if __name__ == "__main__":
    main()
