"""The data tests, as pytest runs them inside of the step: one test per column and rule, named by both."""

from __future__ import annotations

import pandas as pd
import pytest

from check_data.checks import Checked, KSResult
from check_data.rules import RULES, broken_rows, remedy, unknown_class
from stepkit.model.statistics import kolmogorov_smirnov
from stepkit.table.labels import REMEDY, rows_of
from stepkit.table.tables import plain


def test_columns(checked: Checked) -> None:
    """The sample has every described column and the target, and no other."""
    expected = [*checked.columns.names, checked.columns.target]
    missing = [name for name in expected if name not in checked.sample]
    extra = [str(name) for name in checked.sample if name not in expected]
    assert not missing, f"missing: {', '.join(missing)}"
    assert not extra, f"not described: {', '.join(extra)}"


@pytest.mark.parametrize("rule", list(RULES))
def test_values(checked: Checked, column: str, rule: str) -> None:
    if column not in checked.sample:
        pytest.skip("the column is missing")
    broken = broken_rows(checked.sample, checked.columns, column, rule)
    checked.blame(broken, column, rule)
    hint = remedy(checked.columns.columns[column], rule, broken)
    assert broken.empty, (
        f"{len(broken):,} of {len(checked.sample):,} rows: {shown(broken)}; {rows_of(broken.index)}{hint}"
    )


def test_target_classes(checked: Checked) -> None:
    """The target holds 0 and 1, both, and nothing else."""
    values = checked.sample[checked.columns.target]
    broken = values[unknown_class(values)]
    checked.blame(broken, checked.columns.target, "target classes")
    found = f"{len(broken):,} rows are neither 0 nor 1: {shown(broken)}; column {values.name}, {rows_of(broken.index)}"
    assert broken.empty, f"{found}. {REMEDY}" if values.isna().any() else found
    assert values.nunique() == 2, f"only one class is present: {values.iloc[0]}"


def test_distribution(checked: Checked, ks_column: str) -> None:
    """Kolmogorov-Smirnov: the column is distributed as in the reference."""
    if checked.reference is None:
        pytest.skip(checked.no_reference)
    if ks_column not in checked.reference or ks_column not in checked.sample:
        pytest.fail("the column is missing from the sample or the reference")
    result = ks_test(checked.sample[ks_column], checked.reference[ks_column], checked.ks_level)
    checked.results.append(result)
    assert not result.differs, (
        f"differs from the reference: KS {result.statistic:.4f}, p {result.p_value:.2e} below {result.alpha:.2e}"
    )


def ks_test(sample: pd.Series, reference: pd.Series, alpha: float) -> KSResult:
    """Test a column for a difference in distribution; gaps are left out of both sides."""
    ours, theirs = (pd.to_numeric(one, errors="coerce").dropna().to_numpy(dtype=float) for one in (sample, reference))
    if len(ours) and len(theirs):
        distance, p_value = kolmogorov_smirnov(ours, theirs)
    else:  # nothing to compare on one side is a difference, unless both sides are empty
        distance = float(len(ours) != len(theirs))
        p_value = 1.0 - distance
    return KSResult(str(sample.name), distance, p_value, alpha, len(ours), len(theirs), differs=p_value < alpha)


def shown(values: pd.Series, most: int = 5) -> str:
    """The commonest broken values with their counts, for a message."""
    counts = plain(values).fillna("missing").value_counts()
    more = f" and {len(counts) - most} others" if len(counts) > most else ""
    texts = {value: value if value == value.strip() else repr(value) for value in map(str, counts.head(most).index)}
    return ", ".join(f"{text} ({counts[value]}x)" for value, text in texts.items()) + more
