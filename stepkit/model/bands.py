"""Customary names of the indices that credit people read. Source: N. Siddiqi, Credit Risk Scorecards, Wiley, 2006."""

from __future__ import annotations

import math

Bands = tuple[tuple[float, str], ...]
"""Upper limits (excluded) with the name of the values below each, in ascending order."""

IV_BANDS: Bands = (
    (0.02, "not predictive"),
    (0.1, "weak"),
    (0.3, "medium"),
    (0.5, "strong"),
    (math.inf, "suspiciously strong"),
)
PSI_BANDS: Bands = ((0.1, "stable"), (0.25, "some change"), (math.inf, "large change"))


def name_band(value: float, bands: Bands) -> str:
    """Return the customary name of an index."""
    return next(name for limit, name in bands if value < limit)
