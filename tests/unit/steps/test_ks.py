"""check_data.ks: two-sample Kolmogorov-Smirnov at one family-wise error rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from check_data.checks import Checked, run_checks
from check_data.ks import as_table, ks_test
from tests.support.small_data import CLIENTS, clients


def series(*values: object, name: str = "AGE") -> pd.Series:
    return pd.Series(list(values), name=name)


def test_equal_samples_do_not_differ() -> None:
    result = ks_test(series(1, 2, 3), series(3, 1, 2), 0.05)
    assert (result.statistic, result.p_value, result.differs) == (0.0, 1.0, False)


def test_the_statistic_is_the_largest_distance_of_the_distributions() -> None:
    result = ks_test(series(1, 2, 3, 4), series(3, 4, 5, 6), 0.05)
    assert result.statistic == pytest.approx(0.5)  # below 3: half of ours, none of theirs


def test_statistic_and_p_value_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    ours, theirs = random.normal(0, 1, 60), random.normal(0.5, 1, 80)
    result = ks_test(pd.Series(ours, name="x"), pd.Series(theirs), 0.05)
    expected = stats.ks_2samp(ours, theirs)
    assert (result.statistic, result.p_value) == (expected.statistic, expected.pvalue)
    assert (result.column, result.sample_rows, result.reference_rows) == ("x", 60, 80)


def test_gaps_and_texts_are_left_out_of_both_sides() -> None:
    result = ks_test(series(1, None, 2, "?"), series(1, 2, None), 0.05)
    assert (result.sample_rows, result.reference_rows, result.statistic) == (2, 2, 0.0)


@pytest.mark.parametrize("empty_side", ["sample", "reference"])
def test_one_empty_side_is_a_difference(empty_side: str) -> None:
    empty, full = series(None, None), series(1, 2)
    pair = (empty, full) if empty_side == "sample" else (full, empty)
    result = ks_test(*pair, 0.05)
    assert (result.statistic, result.p_value, result.differs) == (1.0, 0.0, True)


def test_two_empty_sides_do_not_differ() -> None:
    result = ks_test(series(None), series(None), 0.05)
    assert (result.statistic, result.differs) == (0.0, False)


def test_each_of_many_columns_is_tested_at_sidaks_level() -> None:
    checked = run_checks(Checked(clients(), CLIENTS, clients(), "", 0.19))
    assert sorted(result.column for result in checked.results) == ["AGE", "LIMIT_BAL"]
    assert [result.alpha for result in checked.results] == pytest.approx([0.1, 0.1])


def test_the_table_of_results_begins_with_the_largest_distance() -> None:
    sample = pd.DataFrame({"same": [1, 2, 3], "other": [1, 2, 3]})
    reference = pd.DataFrame({"same": [1, 2, 3], "other": [3, 4, 5]})
    found = as_table([ks_test(sample[name], reference[name], 0.05) for name in ("same", "other")])
    assert found["column"].tolist() == ["other", "same"]
    assert found["differs"].tolist() == [False, False]
