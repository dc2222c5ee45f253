"""check_data.checks and data_tests: the data tests run inside of the step, and what they leave behind."""

from __future__ import annotations

import pandas as pd
import pytest

from check_data.checks import Checked, run_checks
from check_data.data_tests import ks_test, shown
from check_data.run import complaint, summary
from stepkit.paths import ROOT
from stepkit.table.columns import Column, Columns
from tests.support.small_data import CLIENTS, clients

pytestmark = pytest.mark.slow


def check(sample: pd.DataFrame, reference: pd.DataFrame | None = None, columns: Columns = CLIENTS) -> Checked:
    return run_checks(Checked(sample, columns, reference, "no champion yet", 0.05))


def failed(checked: Checked) -> dict[str, str]:
    return {failure["check"]: failure["detail"] for failure in checked.failures}


def about(found: dict[str, str], column: str, rule: str) -> str:
    """The detail of the one check that names both, in whichever order."""
    (detail,) = [detail for name, detail in found.items() if column in name and rule in name]
    return detail


@pytest.fixture(scope="module")
def broken() -> Checked:
    """One sample in which each rule is broken once."""
    sample = pd.DataFrame(
        {
            "LIMIT_BAL": [20000, 0, 90000, 120000],
            "SEX": [1, 2, 3, 1],
            "AGE": ["24", "old", None, "45"],
            "default": [1, 0, 2, 1],
        }
    )
    return check(sample)


def test_a_clean_sample_like_its_reference_passes_every_test() -> None:
    checked = check(clients(), clients())
    assert checked.failures == []
    assert {outcome["outcome"] for outcome in checked.outcomes} == {"passed"}
    # columns, target classes, 4 rules for each of 3 columns, KS for 2 numeric ones
    assert len(checked.outcomes) == 1 + 1 + 4 * 3 + 2
    assert sorted(result.column for result in checked.results) == ["AGE", "LIMIT_BAL"]
    assert checked.offending_rows.empty


def test_without_a_reference_ks_is_skipped_for_the_reason_given_and_the_rest_runs() -> None:
    checked = check(clients())
    skipped = [outcome for outcome in checked.outcomes if outcome["outcome"] == "skipped"]
    assert [outcome["detail"] for outcome in skipped] == ["no champion yet"] * 2
    assert checked.failures == []
    assert checked.results == []
    assert summary(checked) == "14 data checks passed; KS skipped: no champion yet"


@pytest.mark.parametrize(
    ("column", "rule", "detail"),
    [
        ("LIMIT_BAL", "range", "1 of 4 rows: 0 (1x)"),
        ("SEX", "known values", "1 of 4 rows: 3 (1x)"),
        ("AGE", "type", "1 of 4 rows: old (1x)"),
        ("AGE", "missing", "1 of 4 rows: missing (1x)"),
    ],
)
def test_a_broken_rule_is_named_with_its_column_and_values(
    broken: Checked, column: str, rule: str, detail: str
) -> None:
    assert about(failed(broken), column, rule).startswith(detail)


def test_the_rows_of_each_broken_rule_are_named_with_the_rule(broken: Checked) -> None:
    assert len(broken.failures) == 5
    assert about(failed(broken), "LIMIT_BAL", "range").endswith("; row 1")
    assert failed(broken)["target classes"] == "1 rows are neither 0 nor 1: 2 (1x); column default, row 2"


def test_rows_without_a_label_come_with_a_way_on() -> None:
    detail = failed(check(clients().assign(default=pd.Series([1, None, 0, None], dtype="Int64"))))["target classes"]
    assert detail.startswith("2 rows are neither 0 nor 1: missing (2x); column default, rows 1, 3.")
    assert "Fill in their labels" in detail


def test_blanks_around_a_value_are_shown() -> None:
    assert shown(pd.Series(["yes ", "no"])) == "'yes ' (1x), no (1x)"


def test_example_rows_stand_with_row_number_column_rule_and_value(broken: Checked) -> None:
    rows = broken.offending_rows[["column", "rule", "row", "value"]].itertuples(index=False, name=None)
    assert sorted((*where, "gap" if pd.isna(value) else value) for *where, value in rows) == [
        ("AGE", "missing", 2, "gap"),
        ("AGE", "type", 1, "old"),
        ("LIMIT_BAL", "range", 1, 0),
        ("SEX", "known values", 2, 3),
        ("default", "target classes", 2, 2),
    ]


def test_the_complaint_names_each_failure_and_shows_example_rows(broken: Checked) -> None:
    text = complaint(broken)
    assert text.startswith("5 of 16 data checks failed\n")
    words = ("LIMIT_BAL", "SEX", "AGE", "target classes", "old", "example rows")
    assert [word for word in words if word not in text] == []


def test_missing_and_undescribed_columns_are_named_and_the_rest_is_still_tested() -> None:
    found = failed(check(clients().drop(columns="AGE").assign(SEX=[1, 2, 9, 1])))
    assert found["columns"].startswith("missing: AGE")
    assert about(found, "SEX", "known values")
    assert failed(check(clients().drop(columns="default")))["columns"].startswith("missing: default")
    assert failed(check(clients().assign(HEIGHT=180)))["columns"].startswith("not described: HEIGHT")


def test_a_constant_target_is_named() -> None:
    assert failed(check(clients().assign(default=0)))["target classes"].startswith("only one class is present: 0")


def series(*values: object) -> pd.Series:
    return pd.Series(list(values), name="AGE")


@pytest.mark.parametrize(
    ("sample", "reference", "rows", "statistic", "p_value"),
    [
        (series(1, 2, 3), series(3, 1, 2), (3, 3), 0.0, 1.0),
        (series(1, 2, 3, 4), series(3, 4, 5, 6), (4, 4), 0.5, 54 / 70),  # below 3: half of ours, none of theirs
        (series(1, None, 2, "?"), series(1, 2, None), (2, 2), 0.0, 1.0),
        (series(None, None), series(1, 2), (0, 2), 1.0, 0.0),
        (series(1, 2), series(None, None), (2, 0), 1.0, 0.0),
        (series(None), series(None), (0, 0), 0.0, 1.0),
    ],
    ids=["alike", "apart", "gaps and texts", "empty sample", "empty reference", "both empty"],
)
def test_columns_are_compared_by_their_numbers(
    sample: pd.Series, reference: pd.Series, rows: tuple[int, int], statistic: float, p_value: float
) -> None:
    found = ks_test(sample, reference, 0.05)
    assert (found.column, found.sample_rows, found.reference_rows, found.alpha) == ("AGE", *rows, 0.05)
    assert (found.statistic, found.p_value) == pytest.approx((statistic, p_value))
    assert found.differs is (p_value < 0.05)


def test_each_of_many_columns_is_tested_at_sidaks_level() -> None:
    checked = run_checks(Checked(clients(), CLIENTS, clients(), "", 0.19))
    assert {result.column: result.alpha for result in checked.results} == pytest.approx({"AGE": 0.1, "LIMIT_BAL": 0.1})


def test_another_distribution_is_named_with_statistic_and_level() -> None:
    sample = pd.concat([clients()] * 10, ignore_index=True)
    checked = check(sample.assign(AGE=sample["AGE"] + 40), sample)
    found = failed(checked)
    assert list(found) == ["AGE: distribution"]
    assert found["AGE: distribution"].startswith("differs from the reference: KS 1.0000, p ")
    assert f"below {1 - 0.95**0.5:.2e}" in found["AGE: distribution"]


def test_another_distribution_names_the_way_out_and_the_recipe_for_a_retraining_takes_it() -> None:
    way_out = "data.reference_dataset=none"
    assert way_out in complaint(check(clients().assign(AGE=clients()["AGE"] + 60), pd.concat([clients()] * 20)))
    assert way_out not in complaint(check(clients().replace(57, 777)))
    recipes = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8").splitlines()
    assert all(way_out in line for line in recipes if "data.file_url=outputs/labelled" in line)


def test_a_reference_without_a_column_is_a_failure() -> None:
    found = failed(check(clients(), clients().drop(columns="AGE")))
    assert list(found) == ["AGE: distribution"]
    assert "missing from the sample or the reference" in found["AGE: distribution"]


def test_at_most_twenty_example_rows_stand_for_a_broken_rule() -> None:
    sample = pd.concat([clients()] * 10, ignore_index=True).assign(AGE=7)
    assert len(check(sample).offending_rows) == 20


def test_the_sample_is_untouched() -> None:
    sample = clients().assign(AGE=[1, 2, 3, 4])
    before = sample.copy(deep=True)
    check(sample, clients())
    pd.testing.assert_frame_equal(sample, before)


def test_shown_counts_the_commonest_values_first() -> None:
    text = shown(pd.Series([9, 9, 8, None, 7, 6, 5]), most=2)
    assert (text.startswith("9 (2x), "), text.endswith(" and 4 others")) == (True, True)


def test_every_check_of_a_column_is_called_column_then_rule() -> None:
    called = {outcome["check"] for outcome in check(clients()).outcomes}
    assert {f"AGE: {rule}" for rule in ("type", "known values", "range", "missing", "distribution")} <= called


@pytest.mark.parametrize("name", ["pay-0", "Größe", "a::b", "a[b]"])
def test_a_column_is_called_as_it_is_written(name: str) -> None:
    columns = Columns(source_target="y", target="y", columns={name: Column(max=1)})
    found = failed(check(pd.DataFrame({name: [1, 2, 2], "y": [0, 1, 0]}), columns=columns))
    assert list(found) == [f"{name}: range"]


def test_a_table_without_numeric_columns_has_no_ks_test_at_all() -> None:
    columns = Columns(source_target="y", target="y", columns={"k": Column(type="text", role="categorical")})
    checked = check(pd.DataFrame({"k": ["a", "b"], "y": [0, 1]}), columns=columns)
    assert not [outcome for outcome in checked.outcomes if "distribution" in outcome["check"]]
