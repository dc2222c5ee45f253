"""The plots of an evaluation, by the name that each is published under."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from evaluate.measure import Assessed
from stepkit.model import plots


def pictures(
    assessed: Assessed, threshold: float, classes: plots.ClassNames = ("0", "1")
) -> Iterator[tuple[str, Figure]]:
    """Yield (name, figure) one at a time; of what cannot be drawn (one class only) there is none."""
    scored = assessed.scored
    labels, probability = scored.labels, scored.probability
    if labels.min() != labels.max():
        yield "roc_curve.png", plots.roc_curve(labels, probability, "ROC, test split")
        yield "precision_recall.png", plots.precision_recall_curve(labels, probability, "Precision and recall")
    yield "calibration.png", plots.calibration(labels, probability, "Calibration, test split")
    yield (
        "score_distribution.png",
        plots.score_distribution(labels, probability, threshold, "Scores, test split", classes),
    )
    yield "confusion_matrix.png", plots.confusion_matrix(labels, scored.predicted, "Test split", classes)
    drops = pd.DataFrame([one.as_dict() for one in assessed.importance]).set_index("label")
    yield "importance.png", plots.permutation_importance(drops, "What each column is worth, test split")
