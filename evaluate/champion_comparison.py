"""The champion, asked about the same rows: as far as it can be, and as far as it has not been trained on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.pyfunc import PyFuncModel

from evaluate.gate import Comparison
from evaluate.intervals import Bootstrap
from evaluate.predictions import scored_by
from evaluate.resample import Scored
from stepkit.errors import ArtifactDamaged, ArtifactMissing, TableUnfit, reason_without_rows
from stepkit.model.statistics import Interval
from stepkit.step.run import StepRun
from stepkit.store.champion import other_data_set, run_of_version, why_replaceable
from stepkit.store.lineage import OUTPUT, artifact_of, find_run, inputs_of, run_of
from stepkit.store.tracking import missing_as
from stepkit.table import tables
from stepkit.table.columns import Columns

FEWEST_ROWS = 30
"""With fewer rows that the champion does not know, nothing can be said."""


class CannotCompare(Exception):
    """The champion cannot be asked, or not about these rows; the text says why."""


@dataclass(frozen=True)
class Rival:
    """The champion on the rows that it does not know.

    Attributes:
        comparison: what the gate needs to know.
        metrics: the champion's own, with intervals; none if there was no comparison.
        rows: how many both were compared on; `excluded`: how many it was trained on.
    """

    comparison: Comparison
    metrics: dict[str, Interval] = field(default_factory=dict)
    rows: int = 0
    excluded: int = 0

    @property
    def values(self) -> dict[str, float] | None:
        return {name: interval.value for name, interval in self.metrics.items()} or None

    def as_report(self) -> dict[str, Any]:
        """Return the keys `champion` and `difference` of evaluation.json."""
        differences = self.comparison.differences or {}
        champion = {
            "version": self.comparison.version,
            "reason_not_compared": self.comparison.why_none or self.comparison.why_not or None,
            "rows_compared": self.rows,
            "rows_excluded": self.excluded,
            "rows_unknown": self.comparison.unknown or None,
            "metrics": {name: interval.as_dict() for name, interval in self.metrics.items()},
        }
        found = {name: interval.as_dict() for name, interval in differences.items()}
        return {"champion": champion if self.comparison.version else None, "difference": found}


@dataclass(frozen=True)
class TestSplit:
    """The rows at hand, the address that they came from, and our answers to them."""

    table: pd.DataFrame
    address: str
    ours: Scored


def compare(
    run: StepRun, champion: ModelVersion | None, model_run: str, split: TestSplit, how: Bootstrap, replace: bool
) -> Rival:
    """Ask the champion about the test split and compare; what stands in the way is said, not raised.

    Args:
        model_run: the run of the model at hand.
        replace: a champion of another data set may be replaced.
    """
    if champion is None:
        return Rival(Comparison(why_none="there is no champion yet"))
    version, trained_by = str(champion.version), run_of_version(champion)
    if str(champion.run_id) == model_run:
        return Rival(Comparison(version, why_none=f"the model is the champion itself (version {version})"))
    if other := other_data_set(run.client, champion, run.data_set):
        why = why_replaceable(run.client, champion, replace)
        return Rival(Comparison(version, why_none=other, other_data_set=other, why_replaceable=why))
    try:
        rows, unknown = rows_unknown_to(run, trained_by, split)
        theirs = answers_of(run, champion, split.table.iloc[rows])
    except CannotCompare as error:
        return Rival(Comparison(version, why_not=str(error)))
    comparison = Comparison(version, differences=how.differences(split.ours.of(rows), theirs), unknown=unknown)
    return Rival(comparison, how.intervals(theirs), len(rows), len(split.table) - len(rows))


def rows_unknown_to(run: StepRun, trained_by: str, split: TestSplit) -> tuple[np.ndarray, str]:
    """Return the places of the rows that the champion was not trained on, and "".

    From the same table split by the same seed both have the same test split, and no row of it is known to either.
    If its training rows are unknown, return all rows, and why: a champion that knows some of them looks better than
    it is, never worse.

    Raises:
        CannotCompare: too few are left, or all of them are of one class.
    """
    everything = np.arange(len(split.table))
    address = trained_on(run, trained_by)
    if not address:
        return everything, f"its training run ({trained_by or 'unknown'}) or what that has read is not in the store"
    if same_split(run, address, split.address):
        return everything, ""
    try:
        known = tables.read_table(run.fetch(run_of(address), artifact_of(address)), text=run.columns.text)
    except (ArtifactMissing, ArtifactDamaged):
        return everything, f"{address} is missing or altered"
    is_known = rows_in(known, split.table, run.columns)
    left = np.flatnonzero(~is_known)
    labels = split.ours.labels[left]
    if len(left) < FEWEST_ROWS or labels.min() == labels.max():
        raise CannotCompare(
            f"it was trained on {int(is_known.sum()):,} of the {len(is_known):,} test rows, and the {len(left):,} "
            "others are too few or of one class. Evaluate on newer data."
        )
    return left, ""


def trained_on(run: StepRun, trained_by: str) -> str:
    """Return the address of the champion's training split, "" if it cannot be had."""
    training = find_run(run.client, trained_by)
    address = next(iter(inputs_of(training).values()), "") if training else ""
    return address if address and find_run(run.client, run_of(address)) else ""


def same_split(run: StepRun, train: str, test: str) -> bool:
    """Whether the run that published the training split published this very test split beside it."""
    theirs, ours = (run.client.get_run(run_of(address)).data.tags for address in (train, test))
    outputs = {key: digest for key, digest in ours.items() if key.startswith(OUTPUT)}
    return bool(outputs) and all(theirs.get(key) == digest for key, digest in outputs.items())


def rows_in(known: pd.DataFrame, table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return (n,) whether each row of `table` is among the rows that the champion was trained on.

    Raises:
        CannotCompare: these lack a column, or have one of another type.
    """
    expect_columns(list(map(str, known.columns)), columns)
    try:
        theirs = digests(known, columns)
    except (TableUnfit, ValueError) as error:
        raise CannotCompare("it was trained on another table, whose columns have other types") from error
    return np.isin(digests(table, columns), theirs)


def digests(table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return (n,) a 64-bit digest of each row: of its inputs as the model takes them, and its class."""
    rows = tables.as_model_input(table, columns)
    numbers = [name for name in columns.names if name not in columns.text]
    rows[numbers] += 0.0  # -0.0 and 0.0 are equal, and yet not the same bytes
    whole = tables.with_column(rows, columns.target, table[columns.target].astype(float))
    found: np.ndarray = pd.util.hash_pandas_object(whole, index=False).to_numpy()
    return found


def expect_columns(names: list[str], columns: Columns) -> None:
    """Raise CannotCompare if the champion's table lacks a column of ours."""
    missing = [name for name in [*columns.names, columns.target] if name not in names]
    if missing:
        raise CannotCompare(f"it was trained on another table, which lacks {', '.join(missing)}")


def answers_of(run: StepRun, champion: ModelVersion, table: pd.DataFrame) -> Scored:
    """Return the champion's answers to the rows of `table`.

    Raises:
        CannotCompare: it cannot be loaded, takes other columns, or fails on these rows.
    """
    model = load(run, champion)
    expect_same_signature(model, run.columns)
    try:
        return scored_by(model, table, run.columns)
    except Exception as error:  # whatever the code of a model raises is its own fault, and no reason to end in a crash
        raise CannotCompare(f"it fails on the test split ({reason_without_rows(error)})") from error


def load(run: StepRun, champion: ModelVersion) -> PyFuncModel:
    address = f"models:/{champion.name}/{champion.version}"
    # a file that is missing, cut off or altered: each library raises its own error
    with missing_as(lambda error: CannotCompare(f"{address} cannot be loaded ({_short(error)})"), Exception):
        loaded: PyFuncModel = mlflow.pyfunc.load_model(address, dst_path=str(run.folder_for("champion")))
    return loaded


def expect_same_signature(model: PyFuncModel, columns: Columns) -> None:
    """Raise CannotCompare if the champion takes a column that the table does not have."""
    schema = model.metadata.get_input_schema()
    taken = schema.input_names() if schema else []
    missing = [name for name in taken if name not in columns.names]
    if missing:
        raise CannotCompare(f"it has another signature: it takes {', '.join(missing)}, which the test split lacks")


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""
