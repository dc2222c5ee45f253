"""Comparison with the champion on the test rows that were not in the champion's training data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import RunData
from mlflow.entities.model_registry import ModelVersion

from evaluate.bootstrap import Bootstrap
from evaluate.calibration import measure_calibration
from evaluate.fairness import measure_fairness
from evaluate.gate import is_tie
from evaluate.measure import get_values
from evaluate.predictions import score_table
from evaluate.slices import build_slices
from evaluate.verdict import Comparison, Facts, Measured
from stepkit.errors import ArtifactDamaged, ArtifactMissing, TableUnfit, explain_without_rows
from stepkit.model.metrics import Scored
from stepkit.settings.evaluate import Evaluation
from stepkit.step.run import StepRun
from stepkit.store.champion import find_other_data_set, find_overruled_rules, find_training_run
from stepkit.store.lineage import MODEL_FILES, OUTPUT, find_run, parse_artifact_name, parse_run_id, read_inputs
from stepkit.store.tracking import handle_missing
from stepkit.table import tables
from stepkit.table.columns import Columns

FEWEST_ROWS = 30
"""Least number of rows outside of the champion's training data that allow a comparison."""


class CannotCompare(Exception):
    """The champion cannot score the test rows; the text is the reason."""


@dataclass(frozen=True)
class TestSplit:
    """Test rows, their URI, and the predictions of the model that is evaluated."""

    table: pd.DataFrame
    uri: str
    scored: Scored


def compare_with_champion(
    run: StepRun,
    champion: ModelVersion | None,
    model_run: str,
    split: TestSplit,
    bootstrap: Bootstrap,
    settings: Evaluation,
    may_replace: bool,
) -> Comparison:
    """Score the test split with the champion and compare; if this is impossible, the result has the reason.

    `model_run` is the run that trained the evaluated model. With `may_replace`, this model may replace a champion of
    another data set.
    """
    if champion is None:
        return Comparison(reason_not_needed="no champion yet")
    version = str(champion.version)
    if str(champion.run_id) == model_run:
        return Comparison(version, reason_not_needed=f"the model is the champion itself (version {version})")
    if other_data_set := find_other_data_set(run.client, champion, run.data_set, may_replace):
        return Comparison(version, reason_not_needed=other_data_set.words, other_data_set=other_data_set)
    return measure_against(run, champion, split, bootstrap, settings)


def measure_against(
    run: StepRun, champion: ModelVersion, split: TestSplit, bootstrap: Bootstrap, settings: Evaluation
) -> Comparison:
    """Return the measurements of the champion, and the differences from it, on the rows that it was not trained on."""
    version, trained_by = str(champion.version), find_training_run(champion)
    try:
        rows, unknown = find_unseen_rows(run, trained_by, split)
        table = split.table.iloc[rows]
        scored = score_with_champion(run, champion, table)
    except CannotCompare as error:
        return Comparison(version, reason_not_compared=str(error))
    differences = bootstrap.compute_differences(split.scored.select(rows), scored)
    metrics = bootstrap.compute_intervals(scored)
    training = find_run(run.client, trained_by)
    measured = Measured(
        get_values(metrics),
        measure_calibration(scored.probability, metrics["calibration_error"], bootstrap.seed),
        facts=read_facts(training.data) if training else Facts(),
    )
    if is_tie(differences, settings):  # else slices, which take most of the time, decide nothing
        slices = build_slices(scored, table, run.columns, settings.slices, bootstrap)
        fairness = measure_fairness(scored, table, run.columns, settings.slices, settings.level)
        measured = replace(measured, slices=slices, fairness=fairness)
    return Comparison(
        version,
        differences=differences,
        unknown=unknown,
        metrics=metrics,
        rows=len(rows),
        excluded=len(split.table) - len(rows),
        champion=measured,
        overruled=find_overruled_rules(champion),
    )


def read_facts(training: RunData) -> Facts:
    """Return the facts that the training run of a model logged; NaN for others."""
    files = json.loads(training.tags.get(MODEL_FILES, "{}"))
    return Facts(
        onnx_difference=training.metrics.get("onnx_largest_difference", math.nan),
        size_mb=sum(files.values()) / 1e6 if files else math.nan,
    )


def find_unseen_rows(run: StepRun, trained_by: str, split: TestSplit) -> tuple[np.ndarray, str]:
    """Return the places of the rows that the champion was not trained on, and "".

    If the champion was trained on the other part of the same split, these are all rows. If its training rows are
    unknown, return all rows and the reason: rows that it was trained on make the champion look better, never worse.

    Raises:
        CannotCompare: too few rows remain, or all of them have the same class.
    """
    all_rows = np.arange(len(split.table))
    training = find_run(run.client, trained_by)
    uri = next(iter(read_inputs(training).values()), "") if training else ""
    if not uri or not find_run(run.client, parse_run_id(uri)):
        return all_rows, f"its training run ({trained_by or 'unknown'}) or the input of this run is not in the store"
    if is_same_split(run, uri, split.uri):
        return all_rows, ""
    try:
        trained_on = tables.read_table(run.fetch(parse_run_id(uri), parse_artifact_name(uri)), text=run.columns.text)
    except (ArtifactMissing, ArtifactDamaged):
        return all_rows, f"{uri} is missing or altered"
    is_trained_on = mark_training_rows(trained_on, split.table, run.columns)
    unseen = np.flatnonzero(~is_trained_on)
    labels = split.scored.labels[unseen]
    if len(unseen) < FEWEST_ROWS or labels.min() == labels.max():
        raise CannotCompare(
            f"its training data contain {int(is_trained_on.sum()):,} of the {len(is_trained_on):,} test rows, and the "
            f"other {len(unseen):,} rows are too few (at least {FEWEST_ROWS}) or of one class. Evaluate on newer data."
        )
    return unseen, ""


def is_same_split(run: StepRun, train: str, test: str) -> bool:
    """Return True if the run that published the training split also published an identical test split."""
    train_tags, test_tags = (run.client.get_run(parse_run_id(uri)).data.tags for uri in (train, test))
    digests = {key: digest for key, digest in test_tags.items() if key.startswith(OUTPUT)}
    return bool(digests) and all(train_tags.get(key) == digest for key, digest in digests.items())


def mark_training_rows(trained_on: pd.DataFrame, table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return an (n,) mask of the rows of `table` that are in the champion's training data `trained_on`.

    Raises:
        CannotCompare: a column of the training data is missing or has another type.
    """
    if missing := [name for name in [*columns.names, columns.target] if name not in trained_on]:
        raise CannotCompare(f"it was trained on another table, without column {', '.join(missing)}")
    try:
        digests = compute_row_digests(trained_on, columns)
    except (TableUnfit, ValueError) as error:
        raise CannotCompare("it was trained on another table, with other types of columns") from error
    return np.isin(compute_row_digests(table, columns), digests)


def compute_row_digests(table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return an (n,) array with a 64-bit digest of each row: of its inputs as the model takes them, and its class."""
    rows = tables.to_model_input(table, columns)
    numbers = [name for name in columns.names if name not in columns.text]
    rows[numbers] += 0.0  # -0.0 and 0.0 are equal but have different bytes
    labeled = tables.add_column(rows, columns.target, table[columns.target].astype(float))
    digests: np.ndarray = pd.util.hash_pandas_object(labeled, index=False).to_numpy()
    return digests


def score_with_champion(run: StepRun, champion: ModelVersion, table: pd.DataFrame) -> Scored:
    """Return the champion's predictions for the rows of `table`.

    Raises:
        CannotCompare: the champion cannot be loaded, needs other columns, or fails on these rows.
    """
    uri = f"models:/{champion.name}/{champion.version}"
    # The cause is a missing, truncated or altered file. Each library raises its own error class.
    with handle_missing(lambda error: CannotCompare(f"{uri} cannot be loaded ({_shorten_error(error)})"), Exception):
        model = mlflow.pyfunc.load_model(uri, dst_path=str(run.make_folder("champion")))
    schema = model.metadata.get_input_schema()
    if missing := [name for name in (schema.input_names() if schema else []) if name not in run.columns.names]:
        raise CannotCompare(
            f"it has another signature: it needs column {', '.join(missing)}, which the test split does not have"
        )
    try:
        return score_table(model, table, run.columns)
    except Exception as error:  # the code of a model may raise anything, which must not end the evaluation
        raise CannotCompare(f"it fails on the test split ({explain_without_rows(error)})") from error


def _shorten_error(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
