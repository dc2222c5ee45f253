"""Run the data tests on a sample and collect their results."""

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
"""How many rows are shown for each broken rule."""


@dataclass(frozen=True)
class KSResult:
    """One column's test; `statistic` is the largest distance of the two empirical distributions (0 to 1)."""

    column: str
    statistic: float
    p_value: float
    alpha: float
    sample_rows: int
    reference_rows: int
    differs: bool


@dataclass
class DataChecks:
    """The tables that the data tests look at, and their results."""

    sample: pd.DataFrame
    columns: Columns
    reference: pd.DataFrame | None
    no_reference: str
    ks_alpha: float
    results: list[KSResult] = field(default_factory=list)
    blamed: list[pd.DataFrame] = field(default_factory=list)
    outcomes: list[dict[str, str]] = field(default_factory=list)

    @property
    def ks_level(self) -> float:
        return compute_sidak_level(self.ks_alpha, len(self.columns.numeric))

    def record_broken_rows(self, broken: pd.Series, column: str, rule: str) -> None:
        """Keep the first rows that break a rule: row number, column, rule and value."""
        first = broken.head(EXAMPLES)
        if not first.empty:
            rows = {"row": first.index, "column": column, "rule": rule, "value": first.values}
            self.blamed.append(pd.DataFrame(rows))

    @property
    def failures(self) -> list[dict[str, str]]:
        return [outcome for outcome in self.outcomes if outcome["outcome"] == "failed"]

    @property
    def offending_rows(self) -> pd.DataFrame:
        return pd.concat(self.blamed, ignore_index=True) if self.blamed else pd.DataFrame()


class _Plugin:
    """Hands the checked data to the tests and notes their outcomes."""

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
    """Return a check's name: test_values for AGE and type -> "AGE: type"; test_distribution -> "AGE: distribution"."""
    # not from the test's id, which escapes what is not ASCII
    given = test.callspec.params if hasattr(test, "callspec") else {}
    rule = given.get("rule", test.originalname.removeprefix("test_").replace("_", " "))
    column = given.get("column", given.get("ks_column"))
    return f"{column}: {rule}" if column else str(rule)


def format_detail(report: pytest.TestReport) -> str:
    """Return the message of a failed or skipped test, in one line."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.splitlines()[0].removeprefix("AssertionError: ") if crash else ""


def run_checks(checked: DataChecks) -> DataChecks:
    """Run every data test on `checked.sample` in this process; the outcomes are in the returned object.

    Raises:
        RuntimeError: pytest did not run the tests to their end, so that no failure would mean nothing.
    """
    tests = Path(__file__).with_name("data_tests.py")
    # plugins that happen to be installed take longer to load than the tests to run
    options = ["--disable-plugin-autoload", "-p", "no:terminal", "-p", "no:cacheprovider"]
    # these two collect garbage and handlers for every test: more than half of the time of a hundred short tests
    options += ["-p", "no:unraisableexception", "-p", "no:logging"]
    options += ["-c", os.devnull, "--rootdir", str(tests.parent), "--noconftest"]
    if not checked.columns.numeric:  # pytest would run it once, for a placeholder
        options += ["--deselect", f"{tests.name}::test_distribution"]
    status = pytest.main([str(tests), *options], plugins=[_Plugin(checked)])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not checked.outcomes:
        raise RuntimeError(f"the data tests in {tests} did not run: pytest ended with {status!r}")
    return checked
