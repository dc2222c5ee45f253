"""random_forest: data/data_train.csv -> model_export (ONNX inside), validated on a part held out of them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import mlflow
import numpy as np
from sklearn.pipeline import Pipeline

from random_forest.export import export_model
from random_forest.pipeline import build_pipeline, compute_importances
from stepkit.errors import BadParameter
from stepkit.model import plots
from stepkit.model.metrics import compute_metrics
from stepkit.model.threshold import choose_threshold
from stepkit.paths import ROOT
from stepkit.settings.evaluate import Costs, read_evaluation
from stepkit.settings.load import read_settings
from stepkit.settings.model import ModelSettings
from stepkit.step.flags import make_step_parser, parse_share
from stepkit.step.run import StepRun, step_run
from stepkit.table.labels import get_labels
from stepkit.table.split import split_table
from stepkit.table.tables import to_model_input

log = logging.getLogger("step")


def read_model_settings(model_config: str) -> ModelSettings:
    """Read the model's settings from a file next to this one, or a path; raise BadParameter if it has none."""
    path = Path(__file__).parent / model_config
    missing = f"no model configuration at {path}. The one that comes with this step: rf_config.yaml"
    return read_settings(ModelSettings, path, missing)


def parse_costs(text: str) -> Costs:
    """Read the costs of one row of each kind (tn,fp,fn,tp); empty: those of config.yaml.

    Raises:
        BadParameter: other than four numbers, or a mistake that costs less than the right answer.
    """
    if not text:
        return read_evaluation(ROOT / "config.yaml").costs
    try:
        numbers = [float(word) for word in text.split(",")]
        return Costs(**dict(zip(Costs.model_fields, numbers, strict=True)))
    except ValueError as error:
        raise BadParameter(f"threshold_costs: four numbers are needed, tn,fp,fn,tp; found '{text}'.") from error


def publish_plots(run: StepRun, model: Pipeline, labels: np.ndarray, predicted: np.ndarray) -> None:
    importance = compute_importances(model)
    run.publish_text(importance.to_csv(header=["importance"], index_label="feature"), "feature_importance.csv")
    run.publish_figure(plots.plot_feature_importance(importance, "Feature importance"), "feature_importance.png")
    matrix = plots.plot_confusion_matrix(labels, predicted, "Validation split", run.columns.class_names)
    run.publish_figure(matrix, "confusion_matrix.png")


def make_parser() -> argparse.ArgumentParser:
    flags = make_step_parser(__doc__, "input_step", "input_run_id", "stratify", "random_seed")
    flags.add_argument("--train_data", required=True, help="artifact of input_step with the training rows")
    flags.add_argument("--model_config", default="rf_config.yaml", help="file beside run.py, a path, or runs:/ID/file")
    flags.add_argument("--export_artifact", default="model_export", help="name of the logged model")
    flags.add_argument(
        "--threshold_costs", default="", help="for threshold: cost; what a row costs: tn,fp,fn,tp; empty: config.yaml's"
    )
    flags.add_argument("--val_size", type=parse_share, required=True, help="share of the training rows for validation")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        table = run.read_table(args.input_step, args.train_data, args.input_run_id, context="training")
        settings = read_model_settings(run.fetch_if_artifact(args.model_config))
        get_labels(table, run.columns.target)
        train, validation = split_table(table, args.val_size, args.stratify, args.random_seed)
        model = build_pipeline(settings, run.columns, args.random_seed)
        if empty := [name for name in run.columns.names if train[name].isna().all()]:
            log.warning("no value in the %d training rows, so the model ignores: %s", len(train), ", ".join(empty))
        model.fit(to_model_input(train, run.columns), get_labels(train, run.columns.target))
        labels = get_labels(validation, run.columns.target)
        probability = model.predict_proba(to_model_input(validation, run.columns))[:, 1]
        threshold = choose_threshold(settings.threshold, labels, probability, parse_costs(args.threshold_costs))
        settings = settings.model_copy(update={"threshold": threshold})
        predicted = probability >= threshold
        found = compute_metrics(labels, probability, predicted)
        mlflow.log_metrics({"threshold": threshold, **{f"val_{name}": value for name, value in found.items()}})
        publish_plots(run, model, labels, predicted)
        info, difference = export_model(model, settings, run.columns, validation, run.folder, args.export_artifact)
        mlflow.log_metric("onnx_largest_difference", difference)
        run.record_model(info)
        run.log_summary(
            f"validation AUC {found['roc_auc']:.4f} on {len(validation):,} rows, ONNX equal to {difference:.1e}"
        )


if __name__ == "__main__":
    main()
