"""Each named drift changes what it says and nothing else; the same seed gives the same traffic."""

from __future__ import annotations

import pandas as pd
import pytest

from simulate.drifts import DRIFTS, simulate_traffic
from simulate.figures import TARGET

ROWS = 4_000
CHANGED = {
    "none": set(),
    "limits": {"LIMIT_BAL"},
    "age": {"AGE"},
    "delay": {"PAY_0"},
    "new_code": {"EDUCATION"},
    "missing": {"AGE"},
}


@pytest.fixture(scope="module")
def before() -> pd.DataFrame:
    return simulate_traffic(ROWS, 3)


@pytest.mark.parametrize("drift", CHANGED)
def test_a_drift_changes_its_own_column_only(before: pd.DataFrame, drift: str) -> None:
    after = simulate_traffic(ROWS, 3, drift)
    assert {name for name in before if not before[name].equals(after[name])} == CHANGED[drift]


def test_each_drift_is_as_large_as_it_says(before: pd.DataFrame) -> None:
    assert (simulate_traffic(ROWS, 3, "limits")["LIMIT_BAL"] / before["LIMIT_BAL"]).round(6).eq(1.2).all()
    assert (simulate_traffic(ROWS, 3, "age")["AGE"] - before["AGE"]).eq(5).all()
    later = simulate_traffic(ROWS, 3, "delay")["PAY_0"] - before["PAY_0"]
    assert set(later) == {0, 1}
    assert later.mean() == pytest.approx(0.15, abs=0.02)
    unknown = ~simulate_traffic(ROWS, 3, "new_code")["EDUCATION"].isin(before["EDUCATION"])
    assert unknown.mean() == pytest.approx(0.05, abs=0.012)
    assert simulate_traffic(ROWS, 3, "missing")["AGE"].isna().mean() == pytest.approx(0.10, abs=0.015)


def test_defaults_are_doubled(before: pd.DataFrame) -> None:
    after = simulate_traffic(ROWS, 3, "defaults")
    assert len(after) == ROWS
    assert after[TARGET].mean() == pytest.approx(2 * before[TARGET].mean(), rel=0.08)


@pytest.mark.parametrize("drift", DRIFTS)
def test_the_same_seed_gives_the_same_traffic(drift: str) -> None:
    assert simulate_traffic(300, 5, drift).equals(simulate_traffic(300, 5, drift))
    assert not simulate_traffic(300, 5, drift).equals(simulate_traffic(300, 6, drift))
