"""Reference row of a model: a typical row of the training data, to which the reasons for an answer refer."""

from __future__ import annotations

from typing import Any

import pandas as pd

from stepkit.errors import BadParameter
from stepkit.model.reasons import EXACT, MOST_EXACT_COLUMNS, to_plain_value
from stepkit.settings.model import Reasons
from stepkit.table.columns import Columns

SEED = 11
"""Seed of the orders of the columns. It is fixed, so that the same row always has the same reasons."""


def verify_permutations(reasons: Reasons, inputs: list[str]) -> None:
    """Raise BadParameter if exact reasons are requested for too many input columns."""
    if reasons.permutations == EXACT and len(inputs) > MOST_EXACT_COLUMNS:
        raise BadParameter(
            f"reasons.permutations: exact takes all subsets of the columns (found {len(inputs)} columns, expected "
            f"at most {MOST_EXACT_COLUMNS}). Use a number such as 8, or fewer features."
        )


def build_reference_row(rows: pd.DataFrame, inputs: list[str], columns: Columns) -> dict[str, Any]:
    """Return the median of each number and the most frequent code or text of n raw rows; None for an empty column.

    Of a whole-numbered column, it is the lower median, which is a value of the column.
    """
    return {name: _find_typical_value(rows[name].dropna(), columns.columns[name].role) for name in inputs}


def _find_typical_value(values: pd.Series, role: str) -> Any:
    if values.empty:
        return None
    if role == "categorical":
        return to_plain_value(values.mode().iloc[0])
    return to_plain_value(values.astype(float).quantile(0.5, interpolation="lower"))


def describe_reasons(
    permutations: int | str, columns: Columns, inputs: list[str], reference: dict[str, Any]
) -> dict[str, Any]:
    """Return the key "reasons" of a model's settings.json, from which stepkit.model.reasons computes reasons."""
    described = {name: columns.columns[name] for name in inputs}
    return {
        "permutations": permutations,
        "seed": SEED,
        "reference": reference,
        "labels": {name: column.label for name, column in described.items() if column.label},
        "sentences": {name: column.reason for name, column in described.items() if column.reason},
        "value_labels": {
            name: {str(code): text for code, text in column.labels.items()}
            for name, column in described.items()
            if column.labels
        },
        "not_offered": [name for name, column in described.items() if not column.is_offered],
    }
