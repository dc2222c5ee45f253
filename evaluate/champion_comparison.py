"""The champion's answers to the same rows, as far as it can be asked and has not been trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from evaluate.bootstrap import Bootstrap
from evaluate.gate import Comparison
from evaluate.predictions import score_table
from stepkit.errors import ArtifactDamaged, ArtifactMissing, TableUnfit, explain_without_rows
from stepkit.model.metrics import Scored
from stepkit.step.run import StepRun
from stepkit.store.champion import find_other_data_set, find_training_run
from stepkit.store.lineage import OUTPUT, find_run, parse_artifact_name, parse_run_id, read_inputs
from stepkit.store.tracking import handle_missing
from stepkit.table import tables
from stepkit.table.columns import Columns

FEWEST_ROWS = 30
"""With fewer rows that the champion does not know, nothing can be said."""


class CannotCompare(Exception):
    """The champion cannot be asked, or not about these rows; the text says why."""


@dataclass(frozen=True)
class TestSplit:
    """The rows, the address that they came from, and our answers to them."""

    table: pd.DataFrame
    address: str
    ours: Scored


def compare_with_champion(
    run: StepRun, champion: ModelVersion | None, model_run: str, split: TestSplit, how: Bootstrap, replace: bool
) -> Comparison:
    """Ask the champion about the test split and compare; return what prevents it in words instead of raising.

    Args:
        model_run: the run of the model that is evaluated.
        replace: a champion of another data set may be replaced.
    """
    if champion is None:
        return Comparison(reason_not_needed="there is no champion yet")
    version = str(champion.version)
    if str(champion.run_id) == model_run:
        return Comparison(version, reason_not_needed=f"the model is the champion itself (version {version})")
    if other := find_other_data_set(run.client, champion, run.data_set, replace):
        return Comparison(version, reason_not_needed=other.words, other_data_set=other)
    try:
        rows, unknown = find_unseen_rows(run, find_training_run(champion), split)
        theirs = score_with_champion(run, champion, split.table.iloc[rows])
    except CannotCompare as error:
        return Comparison(version, reason_not_compared=str(error))
    return Comparison(
        version,
        differences=how.compute_differences(split.ours.select(rows), theirs),
        unknown=unknown,
        metrics=how.compute_intervals(theirs),
        rows=len(rows),
        excluded=len(split.table) - len(rows),
    )


def find_unseen_rows(run: StepRun, trained_by: str, split: TestSplit) -> tuple[np.ndarray, str]:
    """Return the places of the rows that the champion was not trained on, and "".

    From the same table split by the same seed both have the same test split, and no row of it is known to either.
    If its training rows are unknown, return all rows, and why: a champion that knows some of them looks better than
    it is, never worse.

    Raises:
        CannotCompare: too few are left, or all of them are of one class.
    """
    everything = np.arange(len(split.table))
    training = find_run(run.client, trained_by)
    address = next(iter(read_inputs(training).values()), "") if training else ""
    if not address or not find_run(run.client, parse_run_id(address)):
        return everything, f"its training run ({trained_by or 'unknown'}) or what that has read is not in the store"
    if is_same_split(run, address, split.address):
        return everything, ""
    try:
        known = tables.read_table(run.fetch(parse_run_id(address), parse_artifact_name(address)), text=run.columns.text)
    except (ArtifactMissing, ArtifactDamaged):
        return everything, f"{address} is missing or altered"
    is_known = mark_training_rows(known, split.table, run.columns)
    left = np.flatnonzero(~is_known)
    labels = split.ours.labels[left]
    if len(left) < FEWEST_ROWS or labels.min() == labels.max():
        raise CannotCompare(
            f"it was trained on {int(is_known.sum()):,} of the {len(is_known):,} test rows, and the {len(left):,} "
            "others are too few or of one class. Evaluate on newer data."
        )
    return left, ""


def is_same_split(run: StepRun, train: str, test: str) -> bool:
    """Return whether the run that published the training split published this very test split next to it."""
    theirs, ours = (run.client.get_run(parse_run_id(address)).data.tags for address in (train, test))
    outputs = {key: digest for key, digest in ours.items() if key.startswith(OUTPUT)}
    return bool(outputs) and all(theirs.get(key) == digest for key, digest in outputs.items())


def mark_training_rows(known: pd.DataFrame, table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return (n,) whether each row of `table` is among the rows that the champion was trained on.

    Raises:
        CannotCompare: these lack a column, or have one of another type.
    """
    if missing := [name for name in [*columns.names, columns.target] if name not in known]:
        raise CannotCompare(f"it was trained on another table, which lacks {', '.join(missing)}")
    try:
        theirs = compute_row_digests(known, columns)
    except (TableUnfit, ValueError) as error:
        raise CannotCompare("it was trained on another table, whose columns have other types") from error
    return np.isin(compute_row_digests(table, columns), theirs)


def compute_row_digests(table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return (n,) a 64-bit digest of each row: of its inputs as the model takes them, and its class."""
    rows = tables.to_model_input(table, columns)
    numbers = [name for name in columns.names if name not in columns.text]
    rows[numbers] += 0.0  # -0.0 and 0.0 are equal, and yet not the same bytes
    whole = tables.add_column(rows, columns.target, table[columns.target].astype(float))
    found: np.ndarray = pd.util.hash_pandas_object(whole, index=False).to_numpy()
    return found


def score_with_champion(run: StepRun, champion: ModelVersion, table: pd.DataFrame) -> Scored:
    """Return the champion's answers to the rows of `table`.

    Raises:
        CannotCompare: it cannot be loaded, takes other columns, or fails on these rows.
    """
    address = f"models:/{champion.name}/{champion.version}"
    # a file that is missing, cut off or altered: each library raises its own error
    with handle_missing(
        lambda error: CannotCompare(f"{address} cannot be loaded ({_shorten_error(error)})"), Exception
    ):
        model = mlflow.pyfunc.load_model(address, dst_path=str(run.make_folder("champion")))
    schema = model.metadata.get_input_schema()
    if missing := [name for name in (schema.input_names() if schema else []) if name not in run.columns.names]:
        raise CannotCompare(f"it has another signature: it takes {', '.join(missing)}, which the test split lacks")
    try:
        return score_table(model, table, run.columns)
    except Exception as error:  # whatever the code of a model raises is its own fault, and no reason to end in a crash
        raise CannotCompare(f"it fails on the test split ({explain_without_rows(error)})") from error


def _shorten_error(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
