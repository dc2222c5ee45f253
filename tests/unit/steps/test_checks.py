"""check_data.checks and data_tests: the data tests inside the step, and their results."""

from __future__ import annotations

import pandas as pd
import pytest

from check_data.checks import DataChecks, run_checks
from check_data.data_tests import make_ks_result
from check_data.run import find_leaking_columns, format_failures, format_summary
from stepkit.paths import ROOT
from stepkit.table.columns import Column, Columns
from stepkit.table.labels import format_values
from tests.support.small_data import CLIENTS, make_clients

pytestmark = pytest.mark.slow


def check(sample: pd.DataFrame, reference: pd.DataFrame | None = None, columns: Columns = CLIENTS) -> DataChecks:
    return run_checks(DataChecks(sample, columns, reference, "no champion yet", 0.05))


@pytest.fixture(scope="module")
def broken() -> DataChecks:
    """Return the checks of a sample that breaks each rule once."""
    columns = {"LIMIT_BAL": [20000, 0, 90000, 120000], "SEX": [1, 2, 3, 1], "AGE": ["24", "old", None, "45"]}
    return check(pd.DataFrame({**columns, "default": [1, 0, 2, 1]}))


def test_a_clean_sample_like_its_reference_passes_every_test_and_stays_as_it_is() -> None:
    sample = make_clients()
    checked = check(sample, make_clients())
    assert {outcome["outcome"] for outcome in checked.outcomes} == {"passed"}
    rules = ("type", "known values", "range", "missing")
    named = {f"{column}: {rule}" for column in CLIENTS.names for rule in rules}
    distributions = {"AGE: distribution", "LIMIT_BAL: distribution"}
    assert {outcome["check"] for outcome in checked.outcomes} == {"columns", "target classes"} | named | distributions
    assert sorted(result.column for result in checked.results) == ["AGE", "LIMIT_BAL"]
    assert checked.offending_rows.empty
    pd.testing.assert_frame_equal(sample, make_clients())


def test_without_a_reference_ks_is_skipped_for_the_reason_given_and_the_rest_runs() -> None:
    checked = check(make_clients())
    skipped = [outcome["detail"] for outcome in checked.outcomes if outcome["outcome"] == "skipped"]
    assert (skipped, checked.failures, checked.results) == (["no champion yet"] * 2, [], [])
    assert format_summary(checked, []) == "14 data checks passed; KS tests skipped (no champion yet)"


def shorten_details(checked: DataChecks, expected: dict[str, str]) -> dict[str, str]:
    """Return the details of the failures, each cut to the length of the expected one."""
    failures = {failure["check"]: failure["detail"] for failure in checked.failures}
    return {name: detail[: len(expected.get(name, detail))] for name, detail in failures.items()}


def test_a_broken_rule_is_named_with_its_column_values_and_rows(broken: DataChecks) -> None:
    expected = {
        "LIMIT_BAL: range": "1 of 4 rows: 0 (1x); row 1 (expected at least 1",
        "SEX: known values": "1 of 4 rows: 3 (1x); row 2 (expected 1, 2)",
        "AGE: type": "1 of 4 rows: old (1x); row 1 (expected whole numbers)",
        "AGE: missing": "1 of 4 rows: missing (1x); row 2 (expected no missing values)",
        "target classes": "1 row is neither 0 nor 1: 2 (1x); column default, row 2",
    }
    assert shorten_details(broken, expected) == expected


WITHOUT_LABEL = make_clients().assign(default=pd.Series([1, None, 0, None], dtype="Int64"))
NO_LABEL = (
    "2 rows are neither 0 nor 1: missing (2x); column default, rows 1, 3. Fill in their labels or remove these rows"
)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (WITHOUT_LABEL, {"target classes": NO_LABEL}),
        (make_clients().assign(default=0), {"target classes": "only one class is present: 0"}),
        (make_clients().assign(HEIGHT=180), {"columns": "not described: HEIGHT"}),
        (
            make_clients().drop(columns="AGE").assign(SEX=[1, 2, 9, 1]),
            {"columns": "missing: AGE", "SEX: known values": "1 of"},
        ),
    ],
    ids=["no label", "one class", "undescribed column", "missing column"],
)
def test_a_broken_table_is_named_and_the_rest_is_still_tested(sample: pd.DataFrame, expected: dict[str, str]) -> None:
    assert shorten_details(check(sample), expected) == expected


def test_a_missing_target_is_a_failure_not_a_crash() -> None:
    expected = {"columns": "missing: default"}
    assert expected.items() <= shorten_details(check(make_clients().drop(columns="default")), expected).items()


def test_example_rows_come_with_row_number_column_rule_and_value(broken: DataChecks) -> None:
    rows = broken.offending_rows[["column", "rule", "row", "value"]].itertuples(index=False, name=None)
    assert sorted((*where, "gap" if pd.isna(value) else value) for *where, value in rows) == [
        ("AGE", "missing", 2, "gap"),
        ("AGE", "type", 1, "old"),
        ("LIMIT_BAL", "range", 1, 0),
        ("SEX", "known values", 2, 3),
        ("default", "target classes", 2, 2),
    ]


def test_the_complaint_names_each_failure_and_shows_example_rows(broken: DataChecks) -> None:
    text = format_failures(broken)
    assert text.startswith("5 of 16 data checks failed\n")
    words = ("LIMIT_BAL", "SEX", "AGE", "target classes", "old", "example rows")
    assert [word for word in words if word not in text] == []


def make_series(*values: object) -> pd.Series:
    return pd.Series(list(values), name="AGE")


@pytest.mark.parametrize(
    ("sample", "reference", "rows", "statistic", "p_value"),
    [
        (make_series(1, 2, 3), make_series(3, 1, 2), (3, 3), 0.0, 1.0),
        (
            make_series(1, 2, 3, 4),
            make_series(3, 4, 5, 6),
            (4, 4),
            0.5,
            54 / 70,
        ),  # below 3: half of the sample, none of the reference
        (make_series(1, None, 2, "?"), make_series(1, 2, None), (2, 2), 0.0, 1.0),
        (make_series(None, None), make_series(1, 2), (0, 2), 1.0, 0.0),
        (make_series(1, 2), make_series(None, None), (2, 0), 1.0, 0.0),
        (make_series(None), make_series(None), (0, 0), 0.0, 1.0),
    ],
    ids=["alike", "apart", "gaps and texts", "empty sample", "empty reference", "both empty"],
)
def test_columns_are_compared_by_their_numbers(
    sample: pd.Series, reference: pd.Series, rows: tuple[int, int], statistic: float, p_value: float
) -> None:
    result = make_ks_result(sample, reference, 0.05)
    assert (result.column, result.sample_rows, result.reference_rows, result.alpha) == ("AGE", *rows, 0.05)
    assert (result.statistic, result.p_value) == pytest.approx((statistic, p_value))
    assert result.differs is (p_value < 0.05)


def test_each_of_many_columns_is_tested_at_sidaks_level() -> None:
    checked = run_checks(DataChecks(make_clients(), CLIENTS, make_clients(), "", 0.19))
    assert {result.column: result.alpha for result in checked.results} == pytest.approx({"AGE": 0.1, "LIMIT_BAL": 0.1})


def test_another_distribution_is_named_with_statistic_level_and_the_way_out_of_the_recipe_for_a_retraining() -> None:
    way_out = "data.reference_dataset=none"
    sample = pd.concat([make_clients()] * 10, ignore_index=True)
    checked = check(sample.assign(AGE=sample["AGE"] + 40), sample)
    expected = {"AGE: distribution": "differs from the reference: KS 1.0000, p "}
    assert shorten_details(checked, expected) == expected
    assert f"below {1 - 0.95**0.5:.2e}" in format_failures(checked)
    assert way_out in format_failures(checked)
    assert way_out not in format_failures(check(make_clients().replace(57, 777)))
    recipes = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8").splitlines()
    assert all(way_out in line for line in recipes if "data.file_url=outputs/labelled" in line)


def test_a_reference_without_a_column_is_a_failure() -> None:
    expected = {"AGE: distribution": "Failed: the column is missing from the sample or the reference"}
    assert shorten_details(check(make_clients(), make_clients().drop(columns="AGE")), expected) == expected


def test_at_most_twenty_example_rows_are_shown_for_a_broken_rule() -> None:
    sample = pd.concat([make_clients()] * 10, ignore_index=True).assign(AGE=7)
    assert len(check(sample).offending_rows) == 20


def test_values_are_shown_with_their_counts_and_blanks_the_commonest_first() -> None:
    assert format_values(pd.Series(["yes ", "no"])) == "'yes ' (1x), no (1x)"
    text = format_values(pd.Series([9, 9, 8, None, 7, 6, 5]), most=2)
    assert (text.startswith("9 (2x), "), text.endswith(" and 4 other values")) == (True, True)


@pytest.mark.parametrize("name", ["pay-0", "Größe", "a::b", "a[b]"])
def test_a_column_is_called_as_it_is_written(name: str) -> None:
    columns = Columns(source_target="y", target="y", columns={name: Column(max=1)})
    checked = check(pd.DataFrame({name: [1, 2, 2], "y": [0, 1, 0]}), columns=columns)
    assert [failure["check"] for failure in checked.failures] == [f"{name}: range"]


def test_a_table_without_numeric_columns_has_no_ks_test_at_all() -> None:
    columns = Columns(source_target="y", target="y", columns={"k": Column(type="text", role="categorical")})
    checked = check(pd.DataFrame({"k": ["a", "b"], "y": [0, 1]}), columns=columns)
    assert not [outcome for outcome in checked.outcomes if "distribution" in outcome["check"]]


def test_the_date_of_a_row_is_expected_and_a_third_class_names_the_lists() -> None:
    dated = CLIENTS.model_copy(update={"time_column": "opened"})
    sample = make_clients().assign(opened="2015-12-01")
    assert check(sample, columns=dated).failures == []
    assert [failure["detail"] for failure in check(sample).failures] == ["not described: opened"]
    assert [failure["detail"] for failure in check(make_clients(), columns=dated).failures] == ["missing: opened"]
    (failure,) = check(make_clients().assign(default=[1, 0, 0, "Current"])).failures
    assert failure["detail"].startswith("1 row is neither 0 nor 1: Current (1x)")
    assert "If the target has more than two values, write lists in data/*.yaml" in failure["detail"]


def test_a_column_that_holds_the_label_is_named_after_the_passed_checks() -> None:
    labels = [row % 5 // 4 for row in range(40)]
    sample = pd.concat([make_clients()] * 10, ignore_index=True).head(40).assign(default=labels, AGE=labels)
    suspicions = find_leaking_columns(sample, CLIENTS)
    assert [(suspicion.column, suspicion.auc) for suspicion in suspicions] == [("AGE", 1.0)]
    summary = format_summary(check(make_clients()), suspicions)
    assert "; warning: possible leakage, ROC AUC of one column alone: AGE (1.000)" in summary
    checked = find_leaking_columns(sample, CLIENTS.model_copy(update={"leakage_checked": ["AGE"]}))
    assert "warning" not in format_summary(check(make_clients()), checked)
