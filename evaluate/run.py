"""evaluate: model_export + data/data_test.csv -> test metrics, plots, and verdict.json against the champion."""

from __future__ import annotations

import argparse
import logging

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from evaluate.gate import judge
from stepkit import plots
from stepkit.args import step_parser
from stepkit.champion import champion_of
from stepkit.columns import Columns
from stepkit.metrics import scores
from stepkit.run import StepRun, step_run
from stepkit.tables import as_model_input

log = logging.getLogger("step")


def score(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return probability and class of n rows, as the model answers anyone."""
    return pd.DataFrame(model.predict(as_model_input(table, columns)))


def scores_of(table: pd.DataFrame, answer: pd.DataFrame, columns: Columns) -> dict[str, float]:
    return scores(table[columns.target].to_numpy(int), answer["probability"].to_numpy(), answer["class"].to_numpy())


def champion_scores(run: StepRun, table: pd.DataFrame, model_name: str) -> tuple[str, dict[str, float] | None]:
    """Return the champion's version and its metrics on the same rows, or "" and None if there is none."""
    champion = champion_of(run.client, model_name)
    if champion is None:
        return "", None
    model = mlflow.pyfunc.load_model(
        f"models:/{model_name}/{champion.version}", dst_path=str(run.folder_for("champion"))
    )
    answer = score(model, table, run.columns)
    return str(champion.version), scores_of(table, answer, run.columns)


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
        table = run.read_table(args.input_data_step, args.test_data, args.input_data_run_id, context="testing")
        model = run.load_model(args.input_model_step, args.model_export, args.input_model_run_id)
        answer = score(model, table, run.columns)
        found = scores_of(table, answer, run.columns)
        mlflow.log_metrics({f"test_{name}": value for name, value in found.items()})
        version, theirs = champion_scores(run, table, args.model_name)
        verdict = judge(found, theirs)
        publish_plots(run, table[run.columns.target].to_numpy(dtype=int), answer)
        report = {
            "champion_version": version or None,
            "metrics": found,
            "champion_metrics": theirs,
            **verdict.as_dict(),
        }
        run.publish_json(report, args.verdict)
        mlflow.set_tag("verdict", "passed" if verdict.passed else "rejected")
        run.say(f"test AUC {found['roc_auc']:.4f} on {len(table):,} rows; {verdict.rules[0].reason}")


if __name__ == "__main__":
    main()
