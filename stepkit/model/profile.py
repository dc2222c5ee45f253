"""Profile of the training rows: rows per bin of the score and of each column, to compare later rows with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stepkit.model.binning import Bins, Stability, compute_stability, make_bins, make_score_bins
from stepkit.table.columns import Columns

TRAINING_PROFILE = "training_profile.json"

Profile = dict[str, Any]
"""Content of TRAINING_PROFILE: `rows` (n), `score` and `columns` by name, each with `edges` or `codes`, and `rows`."""


def build_profile(table: pd.DataFrame, columns: Columns, scores: np.ndarray) -> Profile:
    """Return the profile of n training rows.

    Args:
        table: n rows with the columns of the data set.
        columns: description of the data set.
        scores: probabilities from models that were not fitted on the scored row, NaN where there is none. Scores of
            rows that the model was fitted on would be too extreme to compare with.
    """
    counted = {name: _count_rows(make_bins(table[name], columns.columns[name]), table[name]) for name in columns.names}
    known = pd.Series(scores[np.isfinite(scores)])
    return {"rows": len(table), "score": _count_rows(make_score_bins(known), known), "columns": counted}


def _count_rows(bins: Bins, values: pd.Series) -> dict[str, Any]:
    return {**bins.to_dict(), "rows": bins.count(values).tolist()}


def compare_with_profile(content: dict[str, Any], values: pd.Series, level: float) -> Stability:
    """Return the stability index of n values of a column or of the score, compared with its part of the profile."""
    bins = Bins(content["edges"], content["codes"])
    return compute_stability(np.array(content["rows"], dtype=float), bins.count(values), level)
