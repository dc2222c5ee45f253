"""Credit sheet of a report: from evaluation.json of this release and of earlier ones, and in a pull request comment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ci.summary import make_summary
from evaluate.bootstrap import Bootstrap
from evaluate.credit import build_credit_sheet
from pipeline.report.blocks import Figure, Section, Table, Text
from pipeline.report.gather import PipelineResult
from pipeline.report.page import Page
from pipeline.report.render import render_html, render_markdown
from pipeline.report.schemas import Evaluation
from pipeline.report.sections.credit import list_credit_facts, make_credit_section
from stepkit.model.metrics import Scored
from stepkit.settings.evaluate import Costs
from tests.support.html_pages import Page as HtmlPage
from tests.support.reports import make_page, make_result

PNG = {"gains.png": "iVBO", "strategy.png": "iVBO"}


def make_evaluated(labels: np.ndarray, **changes: Any) -> PipelineResult:
    """Return the data of a report on rows with these labels, whose probabilities fall from 0.99 to 0.01."""
    probability = np.linspace(0.99, 0.01, len(labels))
    scored = Scored(labels, probability, (probability >= 0.6).astype(int))
    metrics = Bootstrap(100, 1, 0.95, Costs()).compute_intervals(scored)
    credit = build_credit_sheet(scored, metrics, 0.6, Costs()).to_report()
    evaluation = {"metrics": {name: interval.to_dict() for name, interval in metrics.items()}, "credit": credit}
    return make_result(evaluation=Evaluation.model_validate(evaluation), pictures=PNG, **changes)


@pytest.fixture
def section() -> Section:
    return make_credit_section(make_evaluated(np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0] * 10)))


def list_tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def test_the_section_starts_with_its_figures_in_words() -> None:
    blocks = make_credit_section(make_evaluated(np.repeat([1, 0], [20, 80]))).blocks
    assert isinstance(blocks[0], Text)
    assert blocks[0].text.startswith(
        "Gini 1.0000 (1.0000 to 1.0000), KS 1.0000 (1.0000 to 1.0000) at probability 0.797"
    )
    assert "The threshold 0.6 approves 60.0% of the rows, of which 0.0% default, compared with 20.0%" in blocks[0].text


def test_a_decile_without_defaults_stays_in_the_gains_table() -> None:
    gains, strategy = list_tables(make_credit_section(make_evaluated(np.repeat([1, 0], [20, 80]))))
    assert [cell.text for cell in gains.rows[0]][1:7] == ["10", "10", "100.0%", "94.5%", "50.0%", "5.00"]
    assert [cell.text for cell in gains.rows[9]][2:7] == ["0", "0.0%", "5.5%", "100.0%", "0.00"]
    assert strategy.folded
    assert [cell.text for cell in strategy.rows[-1]][2] == "none approved"
    assert sum("(threshold)" in row[0].text for row in strategy.rows) == 1


def test_a_run_of_an_earlier_release_has_no_sheet() -> None:
    old = make_result(evaluation=Evaluation(metrics={}), pictures={})
    assert make_credit_section(old).blocks == []
    assert list_credit_facts(old) == []
    assert make_credit_section(make_result()).blocks == []


def test_a_split_with_one_class_shows_the_reason() -> None:
    result = make_evaluated(np.zeros(20, dtype=int))
    (reason,) = make_credit_section(result).blocks
    assert isinstance(reason, Text)
    assert reason.text == "No credit sheet: all 20 rows are of class 0."
    assert list_credit_facts(result) == []


def add_section(section: Section) -> Page:
    page = make_page()
    return Page(**{**vars(page), "sections": [section, *page.sections]})


def test_a_comment_folds_the_gains_table_and_has_no_figures(section: Section) -> None:
    (short,) = [part for part in make_summary(add_section(section)).page.sections if part.id == "credit"]
    (table,) = list_tables(short)
    assert table.folded
    assert table.caption.startswith("Gains by decile")
    assert not any(isinstance(block, Figure) for block in short.blocks)
    assert "<details><summary>Gains by decile" in render_markdown(make_summary(add_section(section)).page)


def test_figures_that_follow_each_other_form_one_group(section: Section) -> None:
    page = HtmlPage(render_html(add_section(section)))
    assert (page.misplaced, page.open) == ([], [])
    groups = [element for element in page.all("div") if element.attributes.get("class") == "figures"]
    assert len(groups) == 2, "the credit sheet's and the one of the section Plots"
    assert len(page.all("img")) == 3
