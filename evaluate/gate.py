"""The decision whether a model may become champion: metrics in, verdict out, nothing read or written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: what was found, what it was held against, and in words how that came out."""

    name: str
    value: float
    threshold: float | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Whether the model passes, and every rule that was looked at."""

    passed: bool
    rules: list[Rule]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def judge(
    found: dict[str, float], champion: dict[str, float] | None, reason: str = "there is no champion yet"
) -> Verdict:
    """Decide whether a model passes, from its test metrics and the champion's on the same rows.

    It passes if there is no champion to beat (`reason` says why), or if its ROC AUC is at least the champion's.
    A metric that could not be computed never passes.
    """
    ours = found["roc_auc"]
    if champion is None:
        rule = Rule("roc_auc", ours, None, math.isfinite(ours), f"AUC {ours:.4f}; nothing to compare with: {reason}")
    else:
        theirs = champion["roc_auc"]
        words = "at least" if ours >= theirs else "below"
        rule = Rule("roc_auc", ours, theirs, ours >= theirs, f"AUC {ours:.4f} is {words} the champion's {theirs:.4f}")
    return Verdict(rule.passed, [rule])
