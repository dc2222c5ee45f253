"""plain: a table of clients -> model.onnx, metrics.json, plots, CSVs, in one process and without tracking.

This script does the work of the pipeline in the simplest way. Its time is the base for the pipeline's overhead. It
imports the functions of the steps, and does the rest with pandas. It supports only numeric columns, and stores only the
model's graph. speed.py verifies that its ROC AUC equals the pipeline's.

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
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from check_data.checks import DataChecks, run_checks
from evaluate.credit import build_credit_sheet
from evaluate.measure import EFFECT_ROWS, Effects, assess_model, build_report, sample_rows
from evaluate.plots import iter_plots
from stepkit.model import plots
from stepkit.model.metrics import Scored
from stepkit.model.reasons import Explainer
from stepkit.settings.evaluate import read_evaluation
from stepkit.settings.model import RandomForestSettings
from stepkit.strict_json import to_json
from stepkit.table.columns import Columns, read_columns
from stepkit.table.split import split_table
from stepkit.table.tables import add_column, compute_sha256, read_table, to_model_input
from training.kind import ModelKind
from training.onnx_graph import to_graph
from training.pipeline import compute_importances, select_features
from training.reference_row import build_reference_row, describe_reasons
from training.train import train_model

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
MODEL_CONFIG = yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text(encoding="utf-8"))
EVALUATION = read_evaluation(ROOT / "config.yaml")


def build_forest(settings: RandomForestSettings, random_seed: int, _monotonic: list[int] | None) -> Any:
    """Return the unfitted forest. The step's own function would load MLflow."""
    forest = settings.random_forest.model_dump(exclude={"monotonic"})
    return RandomForestClassifier(random_state=random_seed, **forest)


KIND = ModelKind(ROOT / "random_forest", RandomForestSettings, "rf_config.yaml", build_forest)
SEED = CONFIG["main"]["random_seed"]
LARGEST_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Part:
    """Part of the table: fitting, validation or test rows."""

    table: pd.DataFrame
    columns: Columns

    @property
    def rows(self) -> pd.DataFrame:
        """Input columns of the rows."""
        return to_model_input(self.table, self.columns)

    @property
    def labels(self) -> np.ndarray:
        """Classes of the rows, (n,)."""
        return self.table[self.columns.target].to_numpy(dtype=int)


@dataclass(frozen=True)
class Fitted:
    """Fitted pipeline, its graph, and the labels and predicted classes of the validation rows by a fit without them."""

    model: Pipeline
    graph: bytes
    session: onnxruntime.InferenceSession
    labels: np.ndarray
    predicted: np.ndarray
    threshold: float
    metrics: dict[str, float]


def clean_table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the input columns as doubles and the target as 0 and 1, without id, duplicates and empty rows."""
    without_id = raw.drop(columns=[columns.id_column or ""], errors="ignore")
    rows = without_id.dropna(how="all").drop_duplicates(ignore_index=True)
    target = rows[columns.source_target].map(columns.classes).astype(int)
    return add_column(rows[columns.names].astype(float), columns.target, target)


def prepare(table: Path, columns: Columns, folder: Path) -> tuple[Part, Part]:
    """Read, clean, check and split the table, write the steps' outputs, return training and test rows."""
    (folder / "sha256.txt").write_text(compute_sha256(table) + "\n")
    clean = clean_table(pd.read_csv(table) if table.suffix == ".gz" else read_table(table), columns)
    # the first run of the pipeline has no reference either
    checked = run_checks(DataChecks(clean, columns, None, "no reference", CONFIG["data"]["ks_alpha"]))
    pd.DataFrame(checked.outcomes).to_csv(folder / "data_checks.csv", index=False)
    if checked.failures:
        raise SystemExit(f"data checks failed: {checked.failures}")
    train, test = split_table(clean, CONFIG["data"]["test_size"], columns.target, SEED)
    for part, name in ((clean, "preprocessed_data"), (train, "data_train"), (test, "data_test")):
        part.to_csv(folder / f"{name}.csv", index=False)
    return Part(train, columns), Part(test, columns)


def predict_probabilities(session: onnxruntime.InferenceSession, rows: pd.DataFrame) -> np.ndarray:
    """Return the graph's (n, 2) probabilities for n rows."""
    inputs = {name.name: rows[name.name].to_numpy(np.float32).reshape(-1, 1) for name in session.get_inputs()}
    probabilities: np.ndarray = session.run(["probabilities"], inputs)[0]
    return probabilities


def fit_model(train: Part, point: dict[str, Any]) -> Fitted:
    """Fit the forest with the settings in `point`, validate and refit it, convert the model, verify the graph."""
    forest = {**MODEL_CONFIG["random_forest"], **point}
    refit = not point  # a job of a sweep does not refit
    settings = RandomForestSettings.model_validate({**MODEL_CONFIG, "random_forest": forest, "refit": refit})
    split = split_table(train.table, CONFIG["data"]["val_size"], train.columns.target, SEED)
    validation = Part(split[1], train.columns)
    trained = train_model(KIND, settings, train.table, split, train.columns, SEED, EVALUATION.costs)
    model = trained.fitted.pipeline
    graph = to_graph(model, select_features(settings.features, train.columns), text=[]).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    both = model.predict_proba(validation.rows)
    if not np.abs(predict_probabilities(session, validation.rows) - both).max() < LARGEST_DIFFERENCE:
        raise SystemExit(f"ONNX graph: probabilities differ from scikit-learn by {LARGEST_DIFFERENCE:.0e} or more")
    return Fitted(model, graph, session, validation.labels, trained.predicted, trained.threshold, trained.metrics)


def compute_effects(session: onnxruntime.InferenceSession, train: Part, test: Part) -> Effects:
    """Return the effects of the columns on the probabilities of a sample of the test rows."""
    names = test.columns.names
    reference = build_reference_row(train.rows, names, test.columns)
    permutations = MODEL_CONFIG["reasons"]["permutations"]
    settings = describe_reasons(permutations, test.columns, names, reference)

    def score(inputs: dict[str, np.ndarray]) -> np.ndarray:
        probabilities: np.ndarray = session.run(["probabilities"], inputs)[0][:, 1].astype(float)
        return probabilities

    rows = test.rows.iloc[sample_rows(len(test.rows), EFFECT_ROWS, SEED)][names]
    inputs = {name: rows[name].to_numpy(np.float32).reshape(-1, 1) for name in names}
    return Effects(rows, Explainer(settings, names, [], score).compute_effects(inputs), reference)


def train_and_evaluate(train: Part, test: Part, folder: Path) -> dict[str, float]:
    """Train, evaluate and write all outputs to `folder`, without a champion; return the metrics of both splits."""
    fitted = fit_model(train, {})
    (folder / "model.onnx").write_bytes(fitted.graph)
    importance = compute_importances(fitted.model)
    importance.to_csv(folder / "feature_importance.csv", header=["importance"], index_label="feature")
    matrix = plots.plot_confusion_matrix(fitted.labels, fitted.predicted, "Validation split")

    def predict(rows: pd.DataFrame) -> np.ndarray:
        return predict_probabilities(fitted.session, rows)[:, 1].astype(float)

    probability = predict(test.rows)
    scored = Scored(test.labels, probability, (probability >= fitted.threshold).astype(int))
    effects = compute_effects(fitted.session, train, test)
    assessed = assess_model(scored, test.table, predict, test.columns, EVALUATION, SEED, effects)
    credit = build_credit_sheet(scored, assessed.metrics, fitted.threshold, EVALUATION.costs)
    report = build_report(assessed, fitted.threshold, EVALUATION, SEED)
    (folder / "evaluation.json").write_text(to_json({**report, "credit": credit.to_report()}))
    figures = [
        ("feature_importance.png", plots.plot_feature_importance(importance, "Feature importance")),
        ("confusion_matrix_validation.png", matrix),
        *iter_plots(assessed, credit, fitted.threshold, test.columns),
    ]
    for name, figure in figures:
        figure.savefig(folder / name, dpi=120)
    test_metrics = {f"test_{name}": value for name, value in assessed.values.items()}
    return {**fitted.metrics, **test_metrics}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("dataset", type=Path, help="description of the table, data/NAME.yaml")
    parser.add_argument("folder", type=Path, help="folder for all outputs")
    points_help = 'forest settings, e.g. [{"n_estimators": 10}]: print only the seconds of each'
    parser.add_argument("--points", type=json.loads, default=[], help=points_help)
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    train, test = prepare(args.table, read_columns(args.dataset), args.folder)
    if args.points:
        began = [time.perf_counter()]
        for point in args.points:
            fit_model(train, point)
            began.append(time.perf_counter())
        print(json.dumps(np.diff(began).tolist()))
        return
    metrics = train_and_evaluate(train, test, args.folder)
    (args.folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"test ROC AUC {metrics['test_roc_auc']:.4f}")


if __name__ == "__main__":
    main()
