"""Credit sheet: Gini, KS with its score, gains by decile of the score, and the strategy curve of possible cutoffs.

Sources: Rezac, Rezac: How to Measure the Quality of Credit Scoring Models, Finance a uver 61, 2011 (Gini, KS, lift);
Brandenburger, Furth: Cumulative Gains Model Quality Metric, Journal of Applied Mathematics and Decision Sciences, 2009
(gains); Open Risk Manual: Credit Scorecard Strategy Curve. A "default" is a row of class 1. Pure functions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from stepkit.model.metrics import Scored, count_confusion
from stepkit.model.statistics import CALIBRATION_BINS, Interval, assign_bins
from stepkit.model.threshold import list_thresholds
from stepkit.settings.evaluate import Costs

MOST_CUTOFFS = 100
"""Steps of approval rate, from 0 to 1, at which the strategy curve has a point."""


@dataclass(frozen=True)
class Decile:
    """Rows of one decile of the score, and of the deciles that are riskier.

    Attributes:
        decile: 1 (riskiest: the highest probabilities) to 10.
        default_rate: share of defaults among its rows.
        capture: share of all defaults that are in this decile or a riskier one.
        lift: its default rate divided by the default rate of all rows.
        mean_probability: mean predicted probability.
        lowest: lowest predicted probability; `highest` is the highest one.
    """

    decile: int
    rows: int
    defaults: int
    default_rate: float
    capture: float
    lift: float
    mean_probability: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Cutoff:
    """Strategy that approves the rows with a probability below a cutoff.

    Attributes:
        cutoff: lowest probability that is declined; NaN if unknown.
        approval_rate: share of approved rows.
        default_rate: share of defaults among the approved rows; NaN if no row is approved.
        cost_per_row: expected cost per row, approved or declined, in the unit of `evaluate.costs`.
    """

    cutoff: float
    approval_rate: float
    default_rate: float
    cost_per_row: float


@dataclass(frozen=True)
class CreditSheet:
    """Figures of the credit sheet.

    Attributes:
        left_out: reason why the sheet is empty, or "".
        ks_score: probability that separates the classes best: KS is the difference of their shares below it.
        gains: at most 10 deciles, the riskiest first. Empty deciles are left out.
        cutoffs: points of the strategy curve, from the highest approval rate to the lowest.
        chosen: the model's own threshold.
    """

    left_out: str = ""
    gini: Interval | None = None
    ks: Interval | None = None
    ks_score: float = np.nan
    gains: list[Decile] = field(default_factory=list)
    cutoffs: list[Cutoff] = field(default_factory=list)
    chosen: Cutoff | None = None

    def to_report(self) -> dict[str, Any]:
        """Return the key `credit` of evaluation.json."""
        if not (self.gini and self.ks and self.chosen):
            return {"left_out": self.left_out}
        return {
            "gini": self.gini.to_dict(),
            "ks": {**self.ks.to_dict(), "score": self.ks_score},
            "gains": [asdict(decile) for decile in self.gains],
            "strategy": {"chosen": asdict(self.chosen), "cutoffs": [asdict(cutoff) for cutoff in self.cutoffs]},
        }


def build_credit_sheet(scored: Scored, metrics: dict[str, Interval], threshold: float, costs: Costs) -> CreditSheet:
    """Return the credit sheet of n scored rows. It is empty, with the reason, if all rows are of one class.

    `metrics` are the metrics of these rows with intervals, and `threshold` is the model's own.
    """
    defaults = int(scored.labels.sum())
    if defaults in (0, len(scored)):
        return CreditSheet(f"all {len(scored):,} rows are of class {min(defaults, 1)}")
    return CreditSheet(
        gini=metrics["gini"],
        ks=metrics["ks_statistic"],
        ks_score=find_ks_score(scored.labels, scored.probability),
        gains=build_gains(scored.labels, scored.probability),
        cutoffs=build_strategy(scored.labels, scored.probability, costs),
        chosen=_make_cutoff(threshold, costs, **count_confusion(scored.labels, scored.predicted)),
    )


def find_ks_score(labels: np.ndarray, probability: np.ndarray) -> float:
    """Return the probability at which the Kolmogorov-Smirnov distance of both classes occurs.

    The value is half way between two probabilities of the n rows, like the model's threshold. Both classes are present.
    """
    thresholds, hits, misses = list_thresholds(labels, probability, np.ones(len(labels)))
    positives = int(labels.sum())
    return float(thresholds[np.argmax(np.abs(hits / positives - misses / (len(labels) - positives)))])


def build_gains(labels: np.ndarray, probability: np.ndarray) -> list[Decile]:
    """Return the gains table of n rows with at least one default, the riskiest decile first.

    The deciles are the bins of the calibration error: equal probabilities share a decile. With many ties, or with fewer
    than 10 rows, some deciles are empty and left out.
    """
    deciles = CALIBRATION_BINS - 1 - assign_bins(probability)
    rows, defaults = (np.bincount(deciles, weights, CALIBRATION_BINS) for weights in (None, labels))
    sums = np.bincount(deciles, probability, CALIBRATION_BINS)
    captured, overall = np.cumsum(defaults) / defaults.sum(), defaults.sum() / len(labels)
    return [
        Decile(
            decile=int(place) + 1,
            rows=int(rows[place]),
            defaults=int(defaults[place]),
            default_rate=float(defaults[place] / rows[place]),
            capture=float(captured[place]),
            lift=float(defaults[place] / rows[place] / overall),
            mean_probability=float(sums[place] / rows[place]),
            lowest=float(probability[deciles == place].min()),
            highest=float(probability[deciles == place].max()),
        )
        for place in np.flatnonzero(rows)
    ]


def build_strategy(labels: np.ndarray, probability: np.ndarray, costs: Costs) -> list[Cutoff]:
    """Return at most `MOST_CUTOFFS` + 1 points of the strategy curve of n rows, from the highest approval rate down.

    The points are spread evenly over the approval rate, as far as equal probabilities allow.
    """
    cutoffs, hits, misses = list_thresholds(labels, probability, np.ones(len(labels)))
    declined, positives = hits + misses, int(labels.sum())
    evenly = np.searchsorted(declined, np.linspace(0, len(labels), MOST_CUTOFFS + 1))
    return [
        _make_cutoff(
            float(cutoffs[place]),
            costs,
            tn=len(labels) - positives - int(misses[place]),
            fp=int(misses[place]),
            fn=positives - int(hits[place]),
            tp=int(hits[place]),
        )
        for place in np.unique(evenly.clip(max=len(cutoffs) - 1))
    ]


def _make_cutoff(cutoff: float, costs: Costs, tn: int, fp: int, fn: int, tp: int) -> Cutoff:
    approved, rows = tn + fn, tn + fp + fn + tp
    default_rate = fn / approved if approved else np.nan
    return Cutoff(cutoff, approved / rows, default_rate, costs.compute_total(tn, fp, fn, tp) / rows)
