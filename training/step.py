"""Step of every kind of model: data_train.csv -> model_export (an ONNX graph), validated on a part of the rows."""

from __future__ import annotations

import argparse
import logging

import mlflow
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from stepkit.errors import BadParameter
from stepkit.model import plots
from stepkit.model.profile import TRAINING_PROFILE, build_profile
from stepkit.paths import ROOT
from stepkit.settings.evaluate import Costs, read_evaluation
from stepkit.settings.load import read_settings
from stepkit.settings.model import CALIBRATION, ModelSettings
from stepkit.step.flags import make_step_parser, parse_share
from stepkit.step.run import StepRun, step_run
from stepkit.store.lineage import WITHOUT_PROTECTED
from stepkit.table.columns import Columns
from stepkit.table.labels import get_labels
from stepkit.table.split import split_rows
from stepkit.table.tables import to_model_input
from training.baselines import publish_baselines
from training.calibration import use_one_core
from training.export import export_model
from training.information_value import publish_information_values
from training.kind import ModelKind
from training.onnx_graph import to_graph
from training.pipeline import compute_importances, select_features
from training.reference_row import verify_permutations
from training.train import fit_on_table, format_fit, train_model

log = logging.getLogger("step")


def read_model_settings(kind: ModelKind, model_config: str) -> ModelSettings:
    """Return the settings from a file in the step's folder, or a path; raise BadParameter if there is none."""
    path = kind.folder / model_config
    missing = f"--model_config: no file {path}. The default is {kind.config}."
    return read_settings(kind.settings, path, missing)


def parse_costs(text: str) -> Costs:
    """Return the costs of one row per outcome (tn,fp,fn,tp); for an empty text, the costs in config.yaml.

    Raises:
        BadParameter: not four numbers, or a wrong class costs less than the correct one.
    """
    if not text:
        return read_evaluation(ROOT / "config.yaml").costs
    try:
        numbers = [float(word) for word in text.split(",")]
        return Costs(**dict(zip(Costs.model_fields, numbers, strict=True)))
    except ValueError as error:
        raise BadParameter(
            f"threshold_costs: not four numbers tn,fp,fn,tp (found '{text}', expected e.g. 0,1,5,0)."
        ) from error


def publish_plots(run: StepRun, model: Pipeline, labels: np.ndarray, predicted: np.ndarray) -> None:
    """Publish the importance of features and the confusion matrix of the validation split."""
    importance = compute_importances(model)
    run.publish_text(importance.to_csv(header=["importance"], index_label="feature"), "feature_importance.csv")
    run.publish_figure(plots.plot_feature_importance(importance, "Feature importance"), "feature_importance.png")
    matrix = plots.plot_confusion_matrix(labels, predicted, "Validation split", run.columns.class_names)
    run.publish_figure(matrix, "confusion_matrix.png")


def publish_without_protected(
    run: StepRun, kind: ModelKind, settings: ModelSettings, table: pd.DataFrame, random_seed: int
) -> None:
    """Publish the graph of the same model without the protected columns, fitted on the same rows (`table`)."""
    names = select_features(settings.features, run.columns)
    protected = [name for name in names if name in run.columns.protected]
    if protected in ([], names):
        log.warning(
            "evaluate.cost_of_protected: %s column of the model is protected, so no second model is fitted",
            "every" if protected else "no",
        )
        return
    features = settings.features.model_copy(update={"exclude_protected": True})
    inputs = select_features(features, run.columns)
    without = settings.model_copy(update={"features": features})
    fitted = fit_on_table(kind, without, run.columns, random_seed, table, needs_held_out=False)
    path = run.folder / WITHOUT_PROTECTED
    text = [name for name in inputs if name in run.columns.text]
    path.write_bytes(to_graph(fitted.pipeline, inputs, text).SerializeToString())
    run.publish_file(path, WITHOUT_PROTECTED)
    log.info("fitted again without %s, for evaluate.cost_of_protected", ", ".join(protected))


def make_model_parser(kind: ModelKind, description: str) -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    flags = make_step_parser(description, "input_step", "input_run_id", "split", "stratify", "random_seed")
    flags.add_argument("--train_data", required=True, help="artifact of input_step with the training rows")
    flags.add_argument("--model_config", default=kind.config, help="file next to run.py, a path, or runs:/ID/NAME")
    flags.add_argument("--export_artifact", default="model_export", help="name of the logged model")
    flags.add_argument(
        "--threshold_costs", default="", help="costs of a row, tn,fp,fn,tp, for threshold: cost; empty: evaluate.costs"
    )
    cost_help = "true: also fit the model without the protected columns, for evaluate"
    flags.add_argument("--cost_of_protected", default="false", choices=["true", "false"], help=cost_help)
    flags.add_argument("--val_size", type=parse_share, required=True, help="share of the training rows for validation")
    return flags


def log_ignored(kind: ModelKind, columns: Columns, train: pd.DataFrame) -> None:
    """Log the columns and the keys of the description that the model ignores."""
    if empty := [name for name in columns.names if train[name].isna().all()]:
        log.warning(
            "columns without a value in the %d training rows, which the model ignores: %s",
            len(train),
            ", ".join(empty),
        )
    if not kind.takes_directions and any(column.monotonic for column in columns.columns.values()):
        log.info("%s ignores the key monotonic of the columns in data/*.yaml", kind.folder.name)


@use_one_core()
def run_model_step(kind: ModelKind, args: argparse.Namespace) -> None:
    """Train and export a model of this kind, with the values of the step's flags."""
    with step_run(args) as run:
        table = run.read_table(args.input_step, args.train_data, args.input_run_id, context="training")
        settings = read_model_settings(kind, run.fetch_if_artifact(args.model_config))
        costs = parse_costs(args.threshold_costs)
        if warning := settings.explain_fixed_threshold():
            log.warning(warning)
        get_labels(table, run.columns.target)
        verify_permutations(settings.reasons, select_features(settings.features, run.columns))
        train, validation = split_rows(table, args.val_size, run.columns, args)
        log_ignored(kind, run.columns, train)
        trained = train_model(kind, settings, table, (train, validation), run.columns, args.random_seed, costs)
        settings = settings.model_copy(update={"threshold": trained.threshold})
        mlflow.log_metrics({"threshold": trained.threshold, **trained.metrics, **trained.rows})
        labels = get_labels(validation, run.columns.target)
        publish_plots(run, trained.fitted.pipeline, labels, trained.predicted)
        info, difference = export_model(
            trained.fitted.pipeline, settings, run.columns, validation, table, run.folder, args.export_artifact
        )
        mlflow.log_metric("onnx_largest_difference", difference)
        run.record_model(info)
        mlflow.set_tag(CALIBRATION, settings.calibration)
        same_rows = table if settings.refit else train
        if args.cost_of_protected == "true":
            publish_without_protected(run, kind, settings, same_rows, args.random_seed)
        publish_information_values(run, table, get_labels(table, run.columns.target))
        run.publish_json(build_profile(table, run.columns, trained.unseen_probability), TRAINING_PROFILE)
        run.record_split({"training": train, "validation": validation}, args.split)
        same_labels = get_labels(same_rows, run.columns.target)
        publish_baselines(run, settings.features, to_model_input(same_rows, run.columns), same_labels)
        run.log_summary(
            f"validation ROC AUC {trained.metrics['val_roc_auc']:.4f} on {len(validation):,} rows; "
            f"{format_fit(trained, settings)}; ONNX probabilities differ by at most {difference:.1e}"
        )
