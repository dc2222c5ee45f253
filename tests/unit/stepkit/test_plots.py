"""Plots of a model: figures with a layout engine are saved as they are, so all their texts must be inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluate.credit import build_gains, build_strategy
from evaluate.plots import plot_gains, plot_strategy
from stepkit.model import plots
from stepkit.settings.evaluate import Costs

LONG = "number_of_people_being_liable_to_provide_maintenance_for"
CLASSES = ("fully paid before the end of the term", "charged off, or late by more than 120 days")
PROBABILITY = np.linspace(0.01, 0.99, 200)
LABELS = (np.arange(200) % 7 < PROBABILITY * 7).astype(int)
IMPORTANCE = pd.Series(np.linspace(0.2, 0.01, 12), index=[f"{LONG}_{number}" for number in range(12)])
DROPS = pd.DataFrame({"value": IMPORTANCE, "low": IMPORTANCE - 0.01, "high": IMPORTANCE + 0.01})
CUTOFFS = build_strategy(LABELS, PROBABILITY, Costs(false_negative=123_456))


@pytest.mark.parametrize(
    "make_figure",
    [
        lambda: plots.plot_feature_importance(IMPORTANCE, "Importance of columns, test split"),
        lambda: plots.plot_permutation_importance(DROPS, "Importance of columns, test split"),
        lambda: plots.plot_confusion_matrix(LABELS, PROBABILITY > 0.5, "Test split", CLASSES),
        lambda: plots.plot_roc_curve(LABELS, PROBABILITY, "ROC, test split"),
        lambda: plots.plot_precision_recall_curve(LABELS, PROBABILITY, "Precision and recall, test split"),
        lambda: plots.plot_calibration(LABELS, PROBABILITY, "Calibration, test split"),
        lambda: plots.plot_score_distribution(LABELS, PROBABILITY, 0.5, "Predicted probabilities, test split", CLASSES),
        lambda: plot_gains(build_gains(LABELS, PROBABILITY)),
        lambda: plot_strategy(CUTOFFS, CUTOFFS[20]),
    ],
    ids=["importance", "permutation", "confusion", "roc", "precision", "calibration", "scores", "gains", "strategy"],
)
def test_no_text_is_cut_off(make_figure: Callable[[], Figure]) -> None:
    figure = make_figure()
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert figure.get_layout_engine()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0


def test_columns_with_the_same_label_have_a_bar_each() -> None:
    (axes,) = plots.plot_feature_importance(pd.Series([0.3, 0.2], index=["balance", "balance"]), "").axes
    assert [bar.get_width() for bar in axes.patches] == [0.2, 0.3]  # type: ignore[attr-defined]  # a rectangle
