"""The plots of an evaluation, by the name that each is published under."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from evaluate.measure import Assessment
from stepkit.model import plots


def iter_plots(
    assessed: Assessment, threshold: float, classes: plots.ClassNames = ("0", "1")
) -> Iterator[tuple[str, Figure]]:
    """Yield (file name, figure) one at a time, without the curves that need two classes if the labels have one."""
    scored = assessed.scored
    labels, probability = scored.labels, scored.probability
    if labels.min() != labels.max():
        yield "roc_curve.png", plots.plot_roc_curve(labels, probability, "ROC, test split")
        yield (
            "precision_recall.png",
            plots.plot_precision_recall_curve(labels, probability, "Precision and recall, test split"),
        )
    yield "calibration.png", plots.plot_calibration(labels, probability, "Calibration, test split")
    yield (
        "score_distribution.png",
        plots.plot_score_distribution(labels, probability, threshold, "Predicted probabilities, test split", classes),
    )
    yield "confusion_matrix.png", plots.plot_confusion_matrix(labels, scored.predicted, "Test split", classes)
    drops = pd.DataFrame([column.to_dict() for column in assessed.importance]).set_index("label")
    yield "importance.png", plots.plot_permutation_importance(drops, "Importance of columns, test split")
