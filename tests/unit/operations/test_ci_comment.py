"""The comment for a fixed report is a fixed text; nothing in a report becomes markup; it is bounded."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path

import pytest

from check_data.checks import DataChecks, run_checks
from check_data.run import format_failures
from ci.comment import MARKER, Place, render_comment
from ci.report import add_base, make_main_base
from ci.summary import MOST_BYTES, ReportFailed, Summary, make_summary, read_form, remove_rows, to_json
from pipeline.report.blocks import MOST_ITEMS, MOST_TEXT, Code, Table, make_cells
from pipeline.report.gather import Base
from pipeline.report.schemas import Estimate, Evaluation
from pipeline.report.sections.metrics import make_metrics_section
from stepkit.model.metric_table import METRICS
from stepkit.settings.evaluate import Metric
from tests.support.reports import COMMIT, make_page, make_result, make_run
from tests.support.small_data import CLIENTS, make_clients

GOLDEN = Path(__file__).parents[1] / "golden" / "comment.md"
PLACE = Place(COMMIT, "https://github.com/someone/credit/actions/runs/42", from_fork=True)
LONGEST_COMMENT = 65_536


def evaluation(name: str, value: float, bins: str | None = None) -> Evaluation:
    return Evaluation(metrics={name: Estimate(value=value)}, calibration_bins=bins)


def base(theirs: Evaluation, data: str = "uci") -> Base:
    return Base("main 89abcdef01", data, "", theirs)


def difference(ours: Evaluation, theirs: Evaluation) -> str:
    """The last cell of the first metric's row: the difference to main."""
    blocks = make_metrics_section(make_result(evaluation=ours, base=base(theirs))).blocks
    (table,) = [block for block in blocks if isinstance(block, Table)]
    return table.rows[0][-1].text


def test_the_comment_on_a_failure_in_a_fork() -> None:
    assert render_comment(make_summary(make_page()), PLACE) == GOLDEN.read_text(encoding="utf-8")


def test_the_comment_survives_the_way_to_the_job_that_posts_it(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text(to_json(make_summary(make_page())), encoding="utf-8")
    assert read_form(Summary, file, MOST_BYTES) == make_summary(make_page())


def test_every_metric_has_its_row_in_the_table_of_metrics() -> None:
    assert set(METRICS) == set(typing.get_args(Metric))


@pytest.mark.parametrize("name", [name for name in METRICS if name != "calibration_error"])
def test_a_difference_is_called_better_in_the_direction_of_its_metric(name: str) -> None:
    lower_is_better = name in ("log_loss", "brier_score", "expected_cost")
    text = difference(evaluation(name, 0.4), evaluation(name, 0.5))
    assert text == f"-0.1000 {'better' if lower_is_better else 'worse'}"
    assert difference(evaluation(name, 0.4), evaluation(name, 0.40001)) == "0.0000"


@pytest.mark.parametrize(
    ("bins", "base_bins", "text"),
    [
        ("equal_mass", "equal_mass", "-0.1000 better"),
        ("equal_mass", None, "not compared"),
        (None, None, "not compared"),
    ],
)
def test_calibration_errors_are_compared_only_over_the_same_bins(
    bins: str | None, base_bins: str | None, text: str
) -> None:
    name = "calibration_error"
    assert difference(evaluation(name, 0.1, bins), evaluation(name, 0.2, base_bins)) == text


def test_a_comment_without_results_of_main_says_so() -> None:
    alone = add_base(make_result(run=make_run("uci")), None)
    assert (alone.base, alone.lost) == (None, ["Not compared with main: no run of main is in the cache."])


def test_results_on_other_data_are_not_compared() -> None:
    other = add_base(make_result(run=make_run("uci")), base(evaluation("roc_auc", 0.9), data="sample"))
    assert other.base is None
    assert other.lost == ["Not compared with main: the last run of main used other data (sample)."]


def test_the_results_that_main_leaves_are_those_a_branch_is_compared_with(tmp_path: Path) -> None:
    main_base = make_main_base(make_result(run=make_run("uci"), evaluation=evaluation("roc_auc", 0.7)), COMMIT)
    file = tmp_path / "base.json"
    file.write_text(to_json(main_base), encoding="utf-8")
    assert add_base(make_result(run=make_run("uci")), read_form(Base, file)).base == main_base
    assert main_base is not None
    assert main_base.name == "main 0123456789"


def test_the_longest_report_fits_into_a_comment() -> None:
    words = "<" * 2 * MOST_TEXT
    table = Table(words, [words] * 20, [make_cells(*[words] * 20)] * 2 * MOST_ITEMS)
    longest = replace(make_page(table), failures=[Code(words, words)] * 9, lost=[words] * 9)
    body = render_comment(make_summary(longest), PLACE)
    assert 50_000 < len(body) <= LONGEST_COMMENT
    assert body.startswith(MARKER)
    assert "Computed by the code of a fork" in body.partition("##")[0]


def test_rows_that_do_not_fit_are_counted() -> None:
    table = Table("T", ["n"], [make_cells(str(number)) for number in range(MOST_ITEMS + 50)])
    (steps, *_) = make_summary(make_page(table)).page.sections
    shown = steps.blocks[1]
    assert isinstance(shown, Table)
    assert len(shown.rows) + shown.left_out == MOST_ITEMS + 50
    assert f"{shown.left_out} more rows in report.html" in render_comment(make_summary(make_page(table)), PLACE)


TABLE = {"block": "table", "caption": "T", "headings": [], "rows": []}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "strange"}, "kind"),
        ({"title": "x" * (MOST_TEXT + 1)}, "title"),
        ({"title": None}, "title"),
        ({"lost": ["x"] * (MOST_ITEMS + 1)}, "lost"),
        ({"sections": [{"id": "steps", "title": "Steps", "blocks": [{**TABLE, "left_out": -1}]}]}, "left_out"),
        ({"sections": [{"id": "steps", "title": "Steps", "blocks": [{**TABLE, "rows": [[]] * 200}]}]}, "rows"),
    ],
)
def test_a_report_beyond_the_bounds_is_not_read(change: dict[str, object], words: str, tmp_path: Path) -> None:
    written = json.loads(to_json(make_summary(make_page())))
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({**written, "page": {**written["page"], **change}}), encoding="utf-8")
    with pytest.raises(ReportFailed, match=words):
        read_form(Summary, file, MOST_BYTES)


def test_a_comment_shows_no_row_of_the_data() -> None:
    message = format_failures(run_checks(DataChecks(make_clients().replace(57, 777), CLIENTS, None, "", 0.05)))
    assert "AGE range    777" in message.partition("example rows")[2]
    assert remove_rows(message).startswith("1 of ")
    assert "AGE range    777" not in remove_rows(message)
    assert "AGE 777" not in render_comment(make_summary(make_page()), PLACE)
