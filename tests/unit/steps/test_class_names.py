"""Names of the classes in plots and in the report."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.schemas import Confusion
from pipeline.report.sections.metrics import make_confusion_table
from stepkit.model import plots
from stepkit.table.columns import Column, Columns

LABELS = np.array([0, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.6, 0.4, 0.9])


@pytest.mark.parametrize(("negative", "positive"), [("good", "bad"), (0, 1), (1, 2), ("$5 to $9", "$\\frac$")])
def test_a_plot_names_the_classes_of_the_source(negative: str | int, positive: str | int) -> None:
    target = {"source_target": "y", "target": "y", "negative": negative, "positive": positive}
    names = Columns(**target, columns={"x": Column()}).class_names
    matrix = plots.plot_confusion_matrix(LABELS, PROBABILITY > 0.5, "", names)
    matrix.canvas.draw()
    (axes,) = matrix.axes
    ticks = [[tick.get_text() for tick in axis] for axis in (axes.get_xticklabels(), axes.get_yticklabels())]
    assert ticks == [[str(negative), str(positive)]] * 2
    (legend,) = plots.plot_score_distribution(LABELS, PROBABILITY, 0.5, "", names).legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert {f"class {negative} (2 rows)", f"class {positive} (2 rows)"} <= {*shown}


def test_the_report_names_the_classes_of_the_source() -> None:
    table = make_confusion_table(Confusion(tn=1, fp=2, fn=3, tp=4), ("good", "bad"))
    assert table.headings[1:3] == ["predicted good", "predicted bad"]
    assert [row[0].text for row in table.rows] == ["true class good", "true class bad"]
