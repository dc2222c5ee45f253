"""Data tests that pytest runs inside the step: one test per column and rule, named after both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from check_data.checks import DataChecks, KSResult
from check_data.rules import RULES, describe_expected, find_broken_rows, mark_unknown_classes, suggest_remedy
from stepkit.model.statistics import compute_ks_test
from stepkit.table.labels import LIST_CLASSES, REMEDY, format_rows, format_values


def test_columns(checked: DataChecks) -> None:
    """Verify that the sample has every described column, the date and the target, and no other column."""
    expected = [*filter(None, [checked.columns.time_column]), *checked.columns.names, checked.columns.target]
    missing = [name for name in expected if name not in checked.sample]
    extra = [str(name) for name in checked.sample if name not in expected]
    assert not missing, f"missing: {', '.join(missing)}"
    assert not extra, f"not described: {', '.join(extra)}"


@pytest.mark.parametrize("rule", list(RULES))
def test_values(checked: DataChecks, column: str, rule: str) -> None:
    """Verify that every value of a column keeps a rule."""
    if column not in checked.sample:
        pytest.skip("the column is missing")
    broken = find_broken_rows(checked.sample, checked.columns, column, rule)
    checked.record_broken_rows(broken, column, rule)
    expected = describe_expected(checked.columns.columns[column], rule)
    remedy = suggest_remedy(checked.columns.columns[column], rule, broken)
    assert broken.empty, (
        f"{len(broken):,} of {len(checked.sample):,} rows: {format_values(broken)}; {format_rows(broken.index)}"
        f"{f' (expected {expected})' if expected else ''}{remedy}"
    )


def test_target_classes(checked: DataChecks) -> None:
    """Verify that the target contains 0 and 1, and no other value."""
    values = checked.sample[checked.columns.target]
    broken = values[mark_unknown_classes(values)]
    checked.record_broken_rows(broken, checked.columns.target, "target classes")
    count = f"{len(broken):,} row{'s are' if len(broken) != 1 else ' is'} neither 0 nor 1"
    problem = f"{count}: {format_values(broken)}; column {values.name}, {format_rows(broken.index)}"
    remedy = f"{REMEDY}. " if values.isna().any() else ""
    remedy += LIST_CLASSES if broken.notna().any() and not checked.columns.lists_classes else ""
    assert broken.empty, f"{problem}. {remedy}".rstrip(" .")
    assert values.nunique() == 2, f"only one class is present: {values.iloc[0]} (expected 0 and 1)"


def test_distribution(checked: DataChecks, ks_column: str) -> None:
    """Verify with a Kolmogorov-Smirnov test that the column is distributed as in the reference."""
    if checked.reference is None:
        pytest.skip(checked.no_reference)
    if ks_column not in checked.reference or ks_column not in checked.sample:
        pytest.fail("the column is missing from the sample or the reference")
    result = make_ks_result(checked.sample[ks_column], checked.reference[ks_column], checked.ks_level)
    checked.results.append(result)
    assert not result.differs, (
        f"differs from the reference: KS {result.statistic:.4f}, p {result.p_value:.2e} below {result.alpha:.2e}"
    )


def make_ks_result(sample: pd.Series, reference: pd.Series, alpha: float) -> KSResult:
    """Test a column for a difference in distribution, without missing values and texts."""
    numbers, expected = (_to_numbers(values) for values in (sample, reference))
    if len(numbers) and len(expected):
        distance, p_value = compute_ks_test(numbers, expected)
    else:  # an empty side differs from the other side, unless both are empty
        distance = float(len(numbers) != len(expected))
        p_value = 1.0 - distance
    return KSResult(str(sample.name), distance, p_value, alpha, len(numbers), len(expected), differs=p_value < alpha)


def _to_numbers(values: pd.Series) -> np.ndarray:
    return pd.to_numeric(values, errors="coerce").dropna().to_numpy(dtype=float)
