"""evaluate: model_export + data/data_test.csv -> test metrics, plots, and verdict.json against the champion."""

from __future__ import annotations

import argparse
from itertools import pairwise

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.pyfunc import PyFuncModel

from evaluate.gate import judge
from stepkit import plots
from stepkit.args import step_parser
from stepkit.champion import champion_of, why_not_comparable
from stepkit.columns import Columns
from stepkit.metrics import scores
from stepkit.run import StepRun, step_run
from stepkit.tables import as_model_input

ROWS_AT_ONCE = 100_000


def score(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return probability and class of n rows, as the model answers anyone.

    A large table is asked about in parts of about the same size: MLflow and the graph each copy what they are given.
    """
    ends = np.linspace(0, len(table), -(-len(table) // ROWS_AT_ONCE) + 1, dtype=int)
    parts = (as_model_input(table.iloc[first:last], columns) for first, last in pairwise(ends))
    return pd.concat([pd.DataFrame(model.predict(part)) for part in parts])


def scores_of(table: pd.DataFrame, answer: pd.DataFrame, columns: Columns) -> dict[str, float]:
    return scores(table[columns.target].to_numpy(int), answer["probability"].to_numpy(), answer["class"].to_numpy())


def champion_scores(run: StepRun, table: pd.DataFrame, champion: ModelVersion) -> dict[str, float]:
    """Return the champion's metrics on the same rows."""
    model = mlflow.pyfunc.load_model(
        f"models:/{champion.name}/{champion.version}", dst_path=str(run.folder_for("champion"))
    )
    return scores_of(table, score(model, table, run.columns), run.columns)


def publish_plots(run: StepRun, labels: np.ndarray, answer: pd.DataFrame) -> None:
    probability = answer["probability"].to_numpy()
    run.publish_figure(plots.roc_curve(labels, probability, "ROC, test split"), "roc_curve.png")
    run.publish_figure(
        plots.precision_recall_curve(labels, probability, "Precision and recall"), "precision_recall.png"
    )
    matrix = plots.confusion_matrix(labels, answer["class"].to_numpy(), "Test split")
    run.publish_figure(matrix, "confusion_matrix.png")


def parser() -> argparse.ArgumentParser:
    flags = step_parser(__doc__, "model_export")
    flags.add_argument("--input_model_step", required=True, help="step that logged the model")
    flags.add_argument("--input_model_run_id", default="", help="exact run of the model; empty: the current one")
    flags.add_argument("--input_data_step", required=True, help="step that published the test split")
    flags.add_argument("--input_data_run_id", default="", help="exact run of the test split; empty: the current one")
    flags.add_argument("--test_data", required=True, help="artifact with the test split")
    flags.add_argument("--verdict", default="verdict.json", help="artifact to publish the verdict as")
    flags.add_argument("--model_name", default="credit_default", help="registered model whose champion is compared")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with step_run(args) as run:
        source = run.source(args.input_data_step, args.input_data_run_id)
        table = run.read_table(args.input_data_step, args.test_data, source, context="testing")
        model = run.load_model(args.input_model_step, args.model_export, args.input_model_run_id)
        answer = score(model, table, run.columns)
        found = scores_of(table, answer, run.columns)
        mlflow.log_metrics({f"test_{name}": value for name, value in found.items()})
        champion = champion_of(run.client, args.model_name)
        reason = why_not_comparable(run.client, champion, source)
        theirs = champion_scores(run, table, champion) if champion and not reason else None
        verdict = judge(found, theirs, reason)
        publish_plots(run, table[run.columns.target].to_numpy(dtype=int), answer)
        report = {
            "champion_version": str(champion.version) if champion else None,
            "metrics": found,
            "champion_metrics": theirs,
            **verdict.as_dict(),
        }
        run.publish_json(report, args.verdict)
        mlflow.set_tag("verdict", "passed" if verdict.passed else "rejected")
        run.say(f"test AUC {found['roc_auc']:.4f} on {len(table):,} rows; {verdict.rules[0].reason}")


if __name__ == "__main__":
    main()
