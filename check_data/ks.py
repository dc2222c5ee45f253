"""Two-sample Kolmogorov-Smirnov tests for many columns at one family-wise error rate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd

from stepkit.model.statistics import kolmogorov_smirnov


@dataclass(frozen=True)
class KSResult:
    """One column's test; `statistic` is the largest distance of the two empirical distributions (0 to 1)."""

    column: str
    statistic: float
    p_value: float
    alpha: float
    sample_rows: int
    reference_rows: int

    @property
    def differs(self) -> bool:
        return self.p_value < self.alpha


def ks_test(sample: pd.Series, reference: pd.Series, alpha: float) -> KSResult:
    """Test a column for a difference in distribution; gaps are left out of both sides."""
    ours = pd.to_numeric(sample, errors="coerce").dropna().astype(float)
    theirs = pd.to_numeric(reference, errors="coerce").dropna().astype(float)
    if ours.empty or theirs.empty:
        # nothing to compare on one side is a difference, unless both sides are empty
        p_value = 1.0 if ours.empty and theirs.empty else 0.0
        return KSResult(str(sample.name), 1.0 - p_value, p_value, alpha, len(ours), len(theirs))
    distance, p_value = kolmogorov_smirnov(ours.to_numpy(), theirs.to_numpy())
    return KSResult(str(sample.name), distance, p_value, alpha, len(ours), len(theirs))


def as_table(results: list[KSResult]) -> pd.DataFrame:
    """One row per column, the largest distance first."""
    rows = [{**asdict(result), "differs": result.differs} for result in results]
    return pd.DataFrame(rows).sort_values("statistic", ascending=False, ignore_index=True)
