"""Data tests of a sample, run by pytest in this process, and their results."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from stepkit.model.statistics import compute_sidak_level
from stepkit.table.columns import Columns

EXAMPLES = 20
"""Number of rows that are recorded for each broken rule."""


@dataclass(frozen=True)
class KSResult:
    """Result of one column's test. `statistic` is the largest distance of the empirical distributions (0 to 1)."""

    column: str
    statistic: float
    p_value: float
    alpha: float
    sample_rows: int
    reference_rows: int
    differs: bool


@dataclass
class DataChecks:
    """Tables for the data tests, and the results of these tests."""

    sample: pd.DataFrame
    columns: Columns
    reference: pd.DataFrame | None
    no_reference: str
    ks_alpha: float
    results: list[KSResult] = field(default_factory=list)
    broken_rows: list[pd.DataFrame] = field(default_factory=list)
    outcomes: list[dict[str, str]] = field(default_factory=list)

    @property
    def ks_level(self) -> float:
        """Level of each column's KS test, after Sidak's correction."""
        return compute_sidak_level(self.ks_alpha, len(self.columns.numeric))

    def record_broken_rows(self, broken: pd.Series, column: str, rule: str) -> None:
        """Record the first rows that break a rule: row number, column, rule and value."""
        first = broken.head(EXAMPLES)
        if not first.empty:
            rows = {"row": first.index, "column": column, "rule": rule, "value": first.values}
            self.broken_rows.append(pd.DataFrame(rows))

    @property
    def failures(self) -> list[dict[str, str]]:
        """Failed checks, each with the keys check, outcome and detail."""
        return [outcome for outcome in self.outcomes if outcome["outcome"] == "failed"]

    @property
    def offending_rows(self) -> pd.DataFrame:
        """Recorded rows of all broken rules."""
        return pd.concat(self.broken_rows, ignore_index=True) if self.broken_rows else pd.DataFrame()


class _Plugin:
    """Plugin of pytest that gives the tables to the tests and records their outcomes."""

    def __init__(self, checked: DataChecks) -> None:
        self.data = checked

    @pytest.fixture
    def checked(self) -> DataChecks:
        return self.data

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for fixture, names in (("column", self.data.columns.names), ("ks_column", self.data.columns.numeric)):
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, names)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            self.data.outcomes.append(
                {"check": make_check_name(item), "outcome": report.outcome, "detail": format_detail(report)}
            )
        return report


def make_check_name(test: pytest.Function) -> str:
    """Return the name of a check: "AGE: type" for test_values, "AGE: distribution" for test_distribution."""
    # The test's id would escape characters that are not ASCII.
    parameters = test.callspec.params if hasattr(test, "callspec") else {}
    rule = parameters.get("rule", test.originalname.removeprefix("test_").replace("_", " "))
    column = parameters.get("column", parameters.get("ks_column"))
    return f"{column}: {rule}" if column else str(rule)


def format_detail(report: pytest.TestReport) -> str:
    """Return the message of a failed or skipped test, in one line."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.splitlines()[0].removeprefix("AssertionError: ") if crash else ""


def run_checks(checked: DataChecks) -> DataChecks:
    """Run every data test on `checked.sample`, record the outcomes in `checked`, and return it.

    Raises:
        RuntimeError: pytest did not run all tests, so a missing failure would prove nothing.
    """
    tests = Path(__file__).with_name("data_tests.py")
    # Loading the installed plugins would take longer than the tests.
    options = ["--disable-plugin-autoload", "-p", "no:terminal", "-p", "no:cacheprovider"]
    # These two run the garbage collector and install handlers for every test: over half of the time of 100 short tests.
    options += ["-p", "no:unraisableexception", "-p", "no:logging"]
    options += ["-c", os.devnull, "--rootdir", str(tests.parent), "--noconftest"]
    if not checked.columns.numeric:  # without columns, pytest would run the test once with a placeholder
        options += ["--deselect", f"{tests.name}::test_distribution"]
    status = pytest.main([str(tests), *options], plugins=[_Plugin(checked)])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not checked.outcomes:
        raise RuntimeError(f"{tests}: the data tests did not run (pytest ended with {status!r})")
    return checked
