"""Verdict of the gate: the measurements that it judges, the results of its rules, and the outcome."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluate.baselines import BaselineComparison
from evaluate.calibration import Calibration
from evaluate.fairness import ColumnFairness
from evaluate.slices import Slice
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import AS_GOOD, PASSED, REJECTED
from stepkit.store.champion import OtherDataSet

BETTER = "better_than_champion"
NOT_WORSE = "not_worse_than_champion"


@dataclass(frozen=True)
class Rule:
    """Result of one rule: the measured value, the threshold, the outcome, and the reason in words."""

    name: str
    value: float
    threshold: float | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Results of all rules, from which the outcome follows.

    Attributes:
        rules: results for the model.
        champion_failed: rules for a model alone that the champion fails today.
    """

    rules: list[Rule]
    champion_failed: list[Rule] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True if no rule failed."""
        return not self.failed

    @property
    def failed(self) -> list[Rule]:
        """Failed rules."""
        return [rule for rule in self.rules if not rule.passed]

    @property
    def outcome(self) -> str:
        """Outcome: passed, as_good or rejected."""
        if self.passed:
            return PASSED
        return AS_GOOD if [rule.name for rule in self.failed] == [BETTER] else REJECTED

    @property
    def reasons(self) -> str:
        """Reasons of the failed rules. A rejected model is never better, so this rule is left out for it."""
        return "; ".join(rule.reason for rule in self.failed if rule.name != BETTER or self.outcome == AS_GOOD)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as in verdict.json."""
        return {"passed": self.passed, "outcome": self.outcome, "reasons": self.reasons, **asdict(self)}


@dataclass(frozen=True)
class Facts:
    """Facts about a model besides its predictions; NaN if not measured.

    Attributes:
        onnx_difference: largest absolute difference of probabilities, ONNX against scikit-learn.
        size_mb: size of all files of the model, in 10^6 bytes.
        latency_ms: median time of a prediction for one row.
    """

    onnx_difference: float = math.nan
    size_mb: float = math.nan
    latency_ms: float = math.nan


@dataclass(frozen=True)
class Measured:
    """Measurements of a model that the rules for a model alone judge; NaN or None if not measured.

    Attributes:
        metrics: metrics on the whole test split.
        calibration: calibration error on these rows, and the part of it that is not chance.
        slices: slices of these rows.
        facts: facts besides the predictions.
        baselines: comparison with the baselines, and columns that may leak the label.
        fairness: groups of the protected columns.
    """

    metrics: dict[str, float]
    calibration: Calibration | None = None
    slices: list[Slice] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)
    baselines: BaselineComparison = field(default_factory=BaselineComparison)
    fairness: list[ColumnFairness] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Comparison of a model with the champion, on test rows that the champion was not trained on.

    Attributes:
        version: version of the champion; "" if there is none.
        reason_not_needed: reason why no comparison is due: no champion, or a champion of another data set.
        reason_not_compared: reason why a comparison that is due failed.
        other_data_set: set if the champion is of another data set.
        differences: metrics of the model minus the champion's, with paired intervals.
        unknown: reason why the champion's training rows are unknown; "" if they are known.
        metrics: metrics of the champion, with intervals.
        rows: number of rows in the comparison.
        excluded: number of test rows that the champion was trained on.
        champion: measurements of the champion on these rows, for the rules that it may fail.
        overruled: rules that a user overruled by promoting the champion by hand.
    """

    version: str = ""
    reason_not_needed: str = ""
    reason_not_compared: str = ""
    other_data_set: OtherDataSet | None = None
    differences: dict[str, Interval] = field(default_factory=dict)
    unknown: str = ""
    metrics: dict[str, Interval] = field(default_factory=dict)
    rows: int = 0
    excluded: int = 0
    champion: Measured | None = None
    overruled: frozenset[str] = frozenset()

    def to_report(self) -> dict[str, Any]:
        """Return the keys `champion` and `difference` of evaluation.json."""
        champion = {
            "version": self.version,
            "reason_not_compared": self.reason_not_needed or self.reason_not_compared or None,
            "rows_compared": self.rows,
            "rows_excluded": self.excluded,
            "rows_unknown": self.unknown or None,
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
        }
        differences = {name: interval.to_dict() for name, interval in self.differences.items()}
        return {"champion": champion if self.version else None, "difference": differences}
