"""Approval rates of the protected groups in a window, compared with the reference.

The approval ratio of a group is its approval rate (share of class 0), divided by that of all other rows. The change of
a ratio is that of the window, divided by that of the reference: below 1, the group is approved less than before,
compared with the others. If all approval rates fall alike, it stays at 1. The error of its logarithm is that of ratios
of independent rates (Katz, Baptista, Azen, Pike, Biometrics 34, 1978).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from stepkit.model.statistics import compute_sidak_level
from stepkit.table.columns import Columns
from stepkit.table.groups import MISSING, iter_groups

Mask = npt.NDArray[np.bool_]

MIN_GROUP_ROWS = 100
"""Fewest rows of a group, and of all other rows, on either side; a smaller group is not compared."""


@dataclass(frozen=True)
class Approvals:
    """Answers of n rows, with their protected columns.

    Attributes:
        is_approved: (n,) True for class 0.
        values: n rows of the protected columns that are known.
    """

    is_approved: Mask
    values: pd.DataFrame


@dataclass(frozen=True)
class GroupChange:
    """Change of a group's approval ratio from the reference to the window.

    Attributes:
        column, group: their labels.
        rows: rows of the group in the window.
        before, after: approval rate of the group in the reference and in the window; NaN without rows.
        change: change of the approval ratio; NaN if the group is not compared.
        limit: a change below it alarms.
        reason: reason why the group is not compared, or "".
    """

    column: str
    group: str
    rows: int
    before: float
    after: float
    change: float = math.nan
    limit: float = math.nan
    reason: str = ""

    @property
    def alarm(self) -> bool:
        """True if the ratio has fallen beyond chance."""
        return self.change < self.limit


@dataclass(frozen=True)
class Count:
    """Rows of a group and of all other rows, and the approved ones among them."""

    rows: int
    approved: int
    other_rows: int
    other_approved: int

    @property
    def rate(self) -> float:
        """Approval rate of the group."""
        return self.approved / self.rows if self.rows else math.nan

    @property
    def log_ratio(self) -> tuple[float, float]:
        """Logarithm of the approval ratio, and its variance.

        Half an approval and one row are added to each side, for rates of 0 and 1.
        """
        rows, others = self.rows + 1, self.other_rows + 1
        rate, other = (self.approved + 0.5) / rows, (self.other_approved + 0.5) / others
        return math.log(rate / other), (1 - rate) / (rows * rate) + (1 - other) / (others * other)


def compare_groups(
    reference: Approvals, current: Approvals, columns: Columns, alpha: float, min_effect: float
) -> list[GroupChange]:
    """Return the change of each group of the protected columns that both sides have.

    Args:
        reference: answers of m rows.
        current: answers of n rows.
        columns: description of the data set.
        alpha: probability that any group alarms although nothing has changed (one-sided, Sidak).
        min_effect: smallest fall of the ratio that alarms.
    """
    pairs = [
        (columns.columns[name].label or name, group, before, after)
        for name in columns.protected
        if name in reference.values and name in current.values
        for group, before, after in _count_groups(name, reference, current, columns)
    ]
    tests = sum(1 for _, _, before, after in pairs if not _explain_not_compared(before, after))
    level = compute_sidak_level(alpha, tests)
    return [_compare_group(*pair, level, min_effect) for pair in pairs]


def _count_groups(
    name: str, reference: Approvals, current: Approvals, columns: Columns
) -> list[tuple[str, Count, Count]]:
    """Return the label of each group of a column, with its count in the reference and in the window."""
    column = columns.columns[name]
    sides = []
    for side in (reference, current):
        groups = iter_groups(side.values[name], column, column.bands)
        masks = {label: is_member for value, label, is_member in groups if value != MISSING}
        is_known = np.logical_or.reduce(list(masks.values())) if masks else np.zeros(len(side.is_approved), dtype=bool)
        sides.append({label: _count(side.is_approved, mask, is_known) for label, mask in masks.items()})
    before, after = sides
    empty = Count(0, 0, 0, 0)
    return [(label, before.get(label, empty), after.get(label, empty)) for label in dict.fromkeys([*before, *after])]


def _count(is_approved: Mask, is_member: Mask, is_known: Mask) -> Count:
    other = is_known & ~is_member
    return Count(
        int(is_member.sum()),
        int((is_approved & is_member).sum()),
        int(other.sum()),
        int((is_approved & other).sum()),
    )


def _explain_not_compared(before: Count, after: Count) -> str:
    fewest = min(before.rows, before.other_rows, after.rows, after.other_rows)
    return "" if fewest >= MIN_GROUP_ROWS else f"fewer than {MIN_GROUP_ROWS} rows in the group or outside of it"


def _compare_group(
    column: str, group: str, before: Count, after: Count, level: float, min_effect: float
) -> GroupChange:
    found = (column, group, after.rows, before.rate, after.rate)
    if reason := _explain_not_compared(before, after):
        return GroupChange(*found, reason=reason)
    (first, first_variance), (second, second_variance) = before.log_ratio, after.log_ratio
    reach = float(norm.ppf(1 - level)) * math.sqrt(first_variance + second_variance)
    return GroupChange(*found, math.exp(second - first), min(1 - min_effect, math.exp(-reach)))
