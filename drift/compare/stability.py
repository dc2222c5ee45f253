"""Stability indices of a window: PSI of the score, and CSI of each column, against the reference.

An index counts if it is above the sampling error of samples of these sizes, and above `min_psi`. The indices share
`alpha` among themselves (Sidak). They repeat the column tests in the terms of credit scoring, so they take no part of
the error rate of the other tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from drift.compare.inputs import Current, Reference
from stepkit.model.bands import PSI_BANDS
from stepkit.model.binning import Bins, compute_stability, make_bins, make_score_bins
from stepkit.model.statistics import compute_sidak_level
from stepkit.settings.drift import Monitoring
from stepkit.table.columns import Columns

CONVENTION = [limit for limit, _ in PSI_BANDS[:-1]]
"""Customary limits, which ignore the number of rows."""


@dataclass(frozen=True)
class Index:
    """Stability index of the score or of a column; `value` and `threshold` are None if it cannot be computed.

    Attributes:
        column: name of the column.
        threshold: the larger of the limit of the sampling error and `min_psi`.
        bins: compared bins.
        reason: reason why the index is missing, or "".
    """

    column: str
    value: float | None
    threshold: float | None
    bins: int
    reason: str = ""

    @property
    def alarm(self) -> bool:
        """True if the index is above its threshold."""
        return self.value is not None and self.threshold is not None and self.value > self.threshold


@dataclass(frozen=True)
class Indices:
    """Indices of a window; `score` is None without a model."""

    score: Index | None
    columns: list[Index]

    def find_worst(self) -> Index | None:
        """Return the column whose index is the largest in relation to its threshold, or None."""
        return max((index for index in self.columns if index.value is not None), key=_compute_ratio, default=None)


def _compute_ratio(index: Index) -> tuple[float, float]:
    value, threshold = index.value or 0.0, index.threshold or 0.0
    return (value / threshold if threshold else 0.0), value


def compute_indices(
    score_name: str,
    pairs: dict[str, tuple[pd.Series, pd.Series]],
    reference: Reference,
    current: Current,
    columns: Columns | None,
    settings: Monitoring,
) -> Indices:
    """Return the indices of a window.

    Args:
        score_name: name of the score.
        pairs: reference (m rows) and window (n rows) of each column, of one type.
        reference: reference with the score.
        current: window with the score.
        columns: description of the columns; None without a model.
        settings: `alpha` and `min_psi`.
    """
    has_score = current.probability is not None and reference.scored is not None
    level = compute_sidak_level(settings.alpha, len(pairs) + has_score)
    described = columns.columns if columns else {}
    by_column = [
        _compute_index(name, make_bins(before, described.get(name)), before, after, level, settings.min_psi)
        for name, (before, after) in pairs.items()
    ]
    if current.probability is None or reference.scored is None:
        return Indices(None, by_column)
    before, after = (_keep_known(values) for values in (reference.scored.probability, current.probability))
    score = _compute_index(score_name, make_score_bins(before), before, after, level, settings.min_psi)
    return Indices(score, by_column)


def _keep_known(scores: np.ndarray) -> pd.Series:
    return pd.Series(scores[np.isfinite(scores)])


def _compute_index(name: str, bins: Bins, before: pd.Series, after: pd.Series, level: float, min_psi: float) -> Index:
    result = compute_stability(bins.count(before), bins.count(after), level)
    threshold = None if result.threshold is None else max(result.threshold, min_psi)
    return Index(name, result.value, threshold, result.bins, result.reason)
