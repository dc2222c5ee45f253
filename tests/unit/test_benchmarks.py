"""benchmarks/: ratios and goals, the table that the README quotes, and a plain script that stays plain."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import plain, speed
from benchmarks.report import Goal, Result, as_markdown
from benchmarks.speed import COMPARISONS, GROWTH, Bench, Comparison, MeasurementFailed, chosen_data, keys_of, take_turns
from preprocess.run import tidy
from stepkit.tracking import ROOT
from tests.contract.repo import first_parts, imported_by, reached_from, read_yaml
from tests.unit.small import CLIENTS

AT_LEAST = Goal("a", "something", ("slow", "fast"), 3.0, at_least=True)
AT_MOST = Goal("b", "another", ("ours", "theirs"), 1.5)


def test_the_median_ratio_of_the_turns_is_judged() -> None:
    result = Result(AT_LEAST, [(9.0, 3.0), (8.0, 2.0), (5.0, 2.0)])
    assert (result.ratio, min(result.ratios), max(result.ratios)) == (3.0, 2.5, 4.0)
    assert result.is_met
    assert not Result(AT_LEAST, [(2.9, 1.0)]).is_met


def test_a_goal_of_at_most_is_missed_above_it() -> None:
    assert AT_MOST.is_met(1.5)
    assert not AT_MOST.is_met(1.51)


def test_a_goal_without_a_target_is_shown_and_not_judged() -> None:
    result = Result(Goal("f", "the fit", ("large", "small"), None), [(90.0, 1.0)])
    assert result.is_met
    assert result.cells[-2:] == ["", ""]


def test_the_markdown_shows_both_sides_the_range_and_the_goal() -> None:
    text = as_markdown([Result(AT_LEAST, [(8.0, 2.0), (6.0, 3.0)], "a note")], "where and when")
    header, rule, row, *rest = text.splitlines()
    assert row == "| something; a note | slow: 7.00 s | fast: 2.50 s | 3.00 (2.00 to 4.00) | at least 3 | yes |"
    assert header.count("|") == rule.count("|") == row.count("|")
    assert rest == ["", "where and when"]


def test_the_sides_take_turns_in_being_first() -> None:
    order: list[str] = []

    def side(name: str, seconds: float) -> speed.Side:
        def measured(_: Bench) -> float:
            order.append(name)
            return seconds

        return measured

    result = take_turns(Bench(Path("none.csv"), "uci"), Comparison(AT_MOST, side("A", 3.0), side("B", 2.0)), 3)
    assert "".join(order) == "ABBAAB"
    assert result.pairs == [(3.0, 2.0)] * 3


def test_another_auc_on_one_side_is_no_measurement() -> None:
    bench = Bench(Path("none.csv"), "uci")
    bench.expect_auc({0.7714382036495685})
    bench.expect_auc({0.7714382036495685})
    with pytest.raises(MeasurementFailed, match="do not do the same work"):
        bench.expect_auc({0.7714382036495684})


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(MeasurementFailed, match=r"status 3:\nit broke"):
        speed.Store(tmp_path).seconds("sh", "-c", "echo it broke; exit 3")


def test_every_goal_has_a_key_of_its_own() -> None:
    keys = [*(one.goal.key for one in COMPARISONS), GROWTH.key]
    assert keys == sorted(set(keys))
    assert keys_of(",".join(keys)) == keys
    with pytest.raises(argparse.ArgumentTypeError, match="no goal x"):
        keys_of("a,x")


def test_without_the_real_data_the_sample_is_measured_and_named(tmp_path: Path) -> None:
    bench, about = chosen_data(tmp_path / "missing.csv")
    assert bench.table.is_file()
    assert "sample" in about


def test_the_plain_script_loads_no_tracking() -> None:
    reached = {
        name for path in reached_from(ROOT / "benchmarks" / "plain.py") for name in first_parts(imported_by(path))
    }
    assert "sklearn" in reached
    assert "mlflow" not in reached


def test_the_plain_script_tidies_as_preprocess_does() -> None:
    raw = pd.DataFrame(
        {
            "ID": [1, 2, 3],
            "LIMIT_BAL": [9, 9, 8],
            "SEX": [1, 1, 2],
            "AGE": [30, 30, None],
            CLIENTS.source_target: [0, 0, 1],
        }
    )
    pd.testing.assert_frame_equal(plain.tidy(raw, CLIENTS), tidy(raw, CLIENTS), check_dtype=False)


def test_the_empty_project_has_the_pins_of_the_root() -> None:
    ours, root = (read_yaml(ROOT / folder / "conda.yml")["dependencies"] for folder in ("benchmarks/empty", "."))
    assert set(ours[-1]["pip"]) <= set(root[-1]["pip"])
    assert ours[:-1] == root[:-1]
