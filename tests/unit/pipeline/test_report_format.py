"""Numbers and escapes of a report."""

from __future__ import annotations

import html
import re
import shlex

import pytest
from markdown_it import MarkdownIt

from pipeline.config import quote_override, split_options
from pipeline.report import escape, format
from pipeline.report.blocks import Cell, Table, make_cells
from pipeline.report.render import render_markdown_table
from pipeline.report.schemas import Estimate
from pipeline.report.sections.metrics import judge_difference
from stepkit.commands import quote_options
from stepkit.model.metric_table import format_metric

HOSTILE = [
    "a|b",
    "a\\|b",
    "a\\",
    "`rm -rf`",
    "``` \n# heading",
    "<script>alert(1)</script>",
    "<!-- hidden",
    "</code></details>",
    "[click](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "**bold** __strong__ _it_ ~~gone~~",
    "&lt;b&gt;",
    "$x$",
    "line\nbreak\r\n\r\n| a | b |\n|---|---|",
    "https://example.org and www.example.org",
    "ask @someone about #1",
]
NO_WIDTH = "\N{ZERO WIDTH SPACE}"
GFM = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_a_text_in_a_table_of_markdown(text: str) -> None:
    table = Table("T", ["name", text], [make_cells("row", text), make_cells(Cell(text, "code"), "last")])
    page = GFM.render(f"**T**\n\n{render_markdown_table(table, 9)}\n\nend")
    assert page.count("<th>") == 2
    assert page.count("<td>") == 4
    assert page.count("<tr>") == 3
    assert not re.search(r"<(script|img|a|em|h1|s|details|/details|!--)\b", page.replace("<strong>T</strong>", ""))
    assert page.rstrip().endswith("<p>end</p>")
    shown = re.findall(r"<td>(.*?)</td>", page)[1]
    assert html.unescape(shown).replace(NO_WIDTH, "") == " ".join(text.split())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_a_text_between_fences(text: str) -> None:
    tokens = GFM.parse(f"before\n\n{escape.fence_text(text)}\n\nafter")
    (fence,) = [token for token in tokens if token.type == "fence"]
    assert fence.content.rstrip("\n") == text.replace("\r\n", "\n").rstrip()
    assert [token.type for token in tokens].count("paragraph_open") == 2


@pytest.mark.parametrize("seen", ["https://", "www.", "@someone", "#1"])
def test_nothing_is_linked_or_called_by_a_report(seen: str) -> None:
    assert seen not in escape.escape_markdown(f"ask {seen}example.org")
    assert seen not in html.unescape(escape.escape_markdown(f"{seen} now")) or seen in ("https://", "www.")


@pytest.mark.parametrize("unseen", ["\x00", "\u202e", "\u200b", "\u2066", "\ufeff"])
def test_what_is_hidden_in_a_text_is_shown(unseen: str) -> None:
    assert escape.make_visible(f"a{unseen}b\ttab\n") == "a\N{REPLACEMENT CHARACTER}b\ttab\n"


def test_a_password_in_a_url_is_hidden() -> None:
    told = escape.make_visible("main.mlflow_tracking_url=postgresql://me:secret@db:5432/x and https://example.org/a")
    assert told == "main.mlflow_tracking_url=postgresql://db:5432/x and https://example.org/a"


def test_names_of_columns_stay_readable() -> None:
    assert escape.escape_markdown("PAY_AMT1") == "PAY_AMT1"
    assert GFM.render(escape.escape_markdown("_x_ a_b_c")) == "<p>_x_ a_b_c</p>\n"


def test_a_shortened_table_states_the_number_of_rows_left_out() -> None:
    table = Table("T", ["n"], [make_cells(str(number)) for number in range(5)])
    assert render_markdown_table(table, 2).splitlines()[-2:] == ["", "3 more rows in report.html"]
    assert "more" not in render_markdown_table(table, 5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.76759, "0.7676"), (-0.00001, "0.0000"), (None, "not computed"), (float("nan"), "not computed"), (1, "1.0000")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert format_metric(value) == text


def test_differences_have_a_sign_unless_they_are_nothing() -> None:
    assert [format.format_difference(one) for one in (0.01, -0.01, -0.00001)] == ["+0.0100", "-0.0100", "0.0000"]


def test_an_interval_with_one_end_is_not_shown() -> None:
    assert format.format_interval(0.5, None) == format.format_interval(float("nan"), 0.5) == ""
    assert format.format_interval(0.25, 0.5) == "0.2500 to 0.5000"


def test_a_difference_is_good_or_bad_only_if_its_whole_interval_is() -> None:
    def of(low: float | None, high: float | None, name: str = "roc_auc") -> str:
        return judge_difference(name, Estimate(value=((low or 0) + (high or 0)) / 2, low=low, high=high))

    assert [of(0.01, 0.02), of(-0.02, -0.01), of(-0.01, 0.02), of(None, 0.1)] == ["good", "bad", "", ""]
    assert [of(0.01, 0.02, "log_loss"), of(-0.02, -0.01, "log_loss")] == ["bad", "good"]
    assert of(0.000001, 0.000002) == ""


@pytest.mark.parametrize(
    "given",
    [
        ["data=uci"],
        ['data.description=it\'s "quoted" $HOME `x` \\ !'],
        ["main.execute_steps=[download, preprocess]", "data.file_url=/a b/c.csv", "+x=''"],
    ],
)
def test_the_command_hands_on_exactly_what_was_given(given: list[str]) -> None:
    (word,) = shlex.split(f"hydra_options={quote_options(given)}")
    assert split_options(["--hydra_options", word.removeprefix("hydra_options=")]) == [*map(quote_override, given)]
