"""The data checks on the real data, for which the expected results are known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from check_data.checks import DataChecks, run_checks
from preprocess.run import clean_table
from stepkit.paths import ROOT
from stepkit.table.columns import Columns, read_columns


@pytest.fixture(scope="module")
def columns() -> Columns:
    return read_columns(ROOT / "data" / "uci.yaml")


@pytest.fixture(scope="module")
def clients(real_data: Path, columns: Columns) -> pd.DataFrame:
    return clean_table(pd.read_csv(real_data), columns)


def list_failed_checks(sample: pd.DataFrame, reference: pd.DataFrame, columns: Columns) -> list[str]:
    """Return the names of the checks that fail; verify that all other checks ran."""
    checked = run_checks(DataChecks(sample, columns, reference, "", ks_alpha=0.05))
    assert len(checked.results) == len(columns.numeric)
    assert {outcome["outcome"] for outcome in checked.outcomes} <= {"passed", "failed"}
    return [failure["check"] for failure in checked.failures]


def test_a_sample_against_itself_passes(clients: pd.DataFrame, columns: Columns) -> None:
    assert list_failed_checks(clients, clients, columns) == []


def test_the_first_200_rows_against_the_rest_fail_naming_the_columns(clients: pd.DataFrame, columns: Columns) -> None:
    assert list_failed_checks(clients.head(200), clients.iloc[200:], columns) == [
        "PAY_AMT2: distribution",
        "PAY_AMT3: distribution",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_half_against_the_other_passes(clients: pd.DataFrame, columns: Columns, seed: int) -> None:
    half = clients.sample(frac=0.5, random_state=seed)
    assert list_failed_checks(half, clients.drop(half.index), columns) == []
