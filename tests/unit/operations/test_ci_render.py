"""The comment for a fixed summary is a fixed text; nothing in a summary becomes markup; it is never too long."""

from __future__ import annotations

import typing
from dataclasses import replace

import pytest
from pydantic import ValidationError

from check_data.checks import Checked, run_checks
from check_data.run import complaint
from ci.collect import without_rows
from ci.render import MARKER, MOST_CHARACTERS, plain, render, shortened
from ci.summary import as_base
from stepkit.settings.evaluate import Metric
from tests.support.ci_summaries import GOLDEN, MAIN, PLACE, failed, full
from tests.support.small_data import CLIENTS, clients


def golden(name: str) -> str:
    return (GOLDEN / name).read_text(encoding="utf-8")


def test_comment_of_a_pipeline_that_went_well() -> None:
    assert render(full(), PLACE) == golden("comment.md")


def test_comment_of_a_failure_in_a_fork() -> None:
    assert render(failed(), replace(PLACE, from_fork=True)) == golden("comment_of_a_failure.md")


def test_comment_without_a_run_of_main_says_so() -> None:
    said = render(full(base=None), PLACE)
    assert "Nothing to compare with: no run of main is in the cache." in said
    assert "| ROC AUC | 0.7775 (0.7661 to 0.7889) |\n" in said


@pytest.mark.parametrize("name", typing.get_args(Metric))
def test_a_difference_is_called_better_in_the_direction_of_its_metric(name: str) -> None:
    base = {"data": "uci", "commit": MAIN, "metrics": {name: {"value": 0.5}}}
    said = render(full(metrics={name: {"value": 0.4}}, base=base), PLACE)
    less_is_better = name in ("log_loss", "brier_score", "calibration_error", "expected_cost")
    assert f"-0.1000 {'better' if less_is_better else 'worse'} |" in said


def test_figures_on_other_data_are_not_compared() -> None:
    said = render(full(base={"data": "sample", "commit": MAIN, "metrics": {"roc_auc": {"value": 0.9}}}), PLACE)
    assert "main's last run is on other data (`sample`)" in said
    assert "0.9000" not in said


def test_what_main_leaves_is_what_a_branch_is_held_against() -> None:
    assert "none" in render(full(base=as_base(full())), PLACE)


@pytest.mark.parametrize("seen", ["<script>", "[a](b)", "**a**", "`a`", "https://x.io", "www.x.io", "@a", "a|b", "#1"])
def test_no_text_becomes_markup(seen: str) -> None:
    assert seen not in plain(f"x {seen} y")
    assert "\n" not in plain(f"x\n{seen}\ny")


def test_names_with_underscores_stay_legible() -> None:
    assert plain("PAY_AMT2: max_depth 13") == "PAY_AMT2: max_depth 13"


def test_hidden_characters_are_shown() -> None:
    assert plain("a\u202eb\x00c") == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("characters", [MOST_CHARACTERS, MOST_CHARACTERS + 1, 3 * MOST_CHARACTERS])
def test_a_body_is_never_longer_than_github_takes(characters: int) -> None:
    body = ("x" * 99 + "\n") * (characters // 100) + "y" * (characters % 100)
    assert len(body) == characters
    kept = shortened(body, PLACE.run_url)
    assert len(kept) <= MOST_CHARACTERS
    assert (kept == body) == (characters <= MOST_CHARACTERS)
    assert kept == body or kept.endswith(f"[The whole report]({PLACE.run_url})_\n")


def test_the_marker_is_kept_when_a_body_is_cut() -> None:
    steps = [{"name": f"step{number}", "state": "ran", "said": "<" * 600} for number in range(40)]
    assert render(full(steps=steps), PLACE).startswith(MARKER)


@pytest.mark.parametrize(
    "change",
    [
        {"data": "uci`<b>"},
        {"commit": "main"},
        {"metrics": {"roc auc|": {"value": 1.0}}},
        {"metrics": {"roc_auc": {"value": "nan"}}},
        {"steps": [{"name": "a", "state": "**bold**"}]},
        {"steps": [{"name": "a", "state": "ran"}] * 41},
        {"error": "x" * 4001},
        {"pull_request": 7},
    ],
)
def test_data_of_another_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        full(**change)


def test_a_comment_shows_no_row_of_the_data() -> None:
    message = complaint(run_checks(Checked(clients().replace(57, 777), CLIENTS, None, "", 0.05)))
    assert "AGE range    777" in message.partition("example rows")[2]
    assert without_rows(message).startswith("1 of ")
    assert "AGE range    777" not in without_rows(message)
