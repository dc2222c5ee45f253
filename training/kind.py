"""Kind of model, which a model step trains: encoder, classifier, and calibration on rows that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from stepkit.settings.model import ModelSettings
from stepkit.table.columns import Columns
from training.calibration import (
    NONE,
    HeldOut,
    compute_held_out,
    fit_calibrator,
    get_score_method,
    is_out_of_bag,
    to_calibrated,
    use_one_core,
    verify_rows,
)
from training.pipeline import CLASSIFIER, ENCODE, build_encoder, fit_encoder, list_directions


@dataclass(frozen=True)
class Fitted:
    """Fitted pipeline, and the rows with a probability by trees or a classifier that was not fitted on them.

    Attributes:
        pipeline: raw rows -> encoded -> classifier, with its calibration.
        held_out: rows with a held-out score; None if neither calibration nor threshold needs one.
        probability: (m,) calibrated probability of these rows.
    """

    pipeline: Pipeline
    held_out: HeldOut | None
    probability: np.ndarray


@dataclass(frozen=True)
class ModelKind:
    """Kind of model, which a model step trains.

    Attributes:
        folder: folder of the step.
        settings: schema of its settings file.
        config: name of its settings file in `folder`.
        build_classifier: returns the unfitted scikit-learn classifier for these settings, this random seed, and the
            directions (-1, 0, 1) of the encoded features, or None if no column has a direction.
        scaled: True if the encoder scales numbers.
        takes_directions: False if the classifier ignores the directions.
    """

    folder: Path
    settings: type[ModelSettings]
    config: str
    build_classifier: Callable[[Any, int, list[int] | None], Any]
    scaled: bool = False
    takes_directions: bool = True

    def fit(
        self, settings: ModelSettings, columns: Columns, rows: pd.DataFrame, labels: np.ndarray, random_seed: int
    ) -> Pipeline:
        """Return the pipeline, fitted and calibrated on n raw rows with (n,) labels of 0 and 1.

        Raises:
            BadParameter: a feature is not a column of the data set.
            TableUnfit: too few rows for the calibration.
        """
        return self.fit_with_held_out(settings, columns, rows, labels, random_seed, needs_held_out=False).pipeline

    @use_one_core()
    def fit_with_held_out(
        self,
        settings: ModelSettings,
        columns: Columns,
        rows: pd.DataFrame,
        labels: np.ndarray,
        random_seed: int,
        needs_held_out: bool = True,
    ) -> Fitted:
        """Return the fitted pipeline with the probabilities of rows that its classifier had not seen; see `fit`."""
        calibration, remedy = settings.calibration, self._explain_remedy(settings.calibration)
        encoder = build_encoder(settings.features, columns, self.scaled)
        encoded = fit_encoder(encoder, rows)
        classifier = self.build_classifier(settings, random_seed, list_directions(encoder, columns))
        needs_held_out = needs_held_out or calibration != NONE
        if needs_held_out and not is_out_of_bag(classifier):
            verify_rows(labels, calibration, "out-of-fold", remedy)
        classifier.fit(encoded, labels)
        held_out, probability = None, np.empty(0)
        if needs_held_out:
            method = get_score_method(classifier, calibration)
            held_out = compute_held_out(classifier, encoded, labels, method, random_seed)
            verify_rows(held_out.labels, calibration, held_out.source, remedy)
            probability = held_out.scores
        if held_out and calibration != NONE:
            calibrator = fit_calibrator(held_out, calibration)
            probability = calibrator.predict_proba(held_out.scores[:, None])[:, 1]
            classifier = to_calibrated(classifier, calibrator)
        return Fitted(Pipeline([(ENCODE, encoder), (CLASSIFIER, classifier)]), held_out, probability)

    def _explain_remedy(self, calibration: str) -> str:
        """Return the next step if the held-out rows are too few for this calibration."""
        settings = {"isotonic": "calibration=sigmoid", "sigmoid": "calibration=none", NONE: "refit=false"}
        return f"Add rows, or set {self.folder.name}_pipeline.{settings[calibration]}."
