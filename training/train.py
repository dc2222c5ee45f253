"""Validation of a model on rows that it has not seen, and the fit on all training rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.pool import ThreadPool

import numpy as np
import pandas as pd

from stepkit.model.metrics import compute_metrics
from stepkit.model.threshold import choose_threshold
from stepkit.settings.evaluate import Costs
from stepkit.settings.model import ModelSettings
from stepkit.table.columns import Columns
from stepkit.table.labels import get_labels
from stepkit.table.tables import to_model_input
from training.calibration import NONE, is_out_of_bag
from training.kind import Fitted, ModelKind


@dataclass(frozen=True)
class Trained:
    """Trained model, and its validation.

    Attributes:
        fitted: the model, fitted on the training rows, and with `refit` on the validation rows too.
        threshold: lowest probability of this model for which the class is 1.
        probability: (v,) probability of the validation rows, by the model that was fitted without them.
        predicted: (v,) their class, at the threshold chosen on them.
        metrics: metrics of this prediction, with the prefix "val_".
        rows: numbers of rows: rows_train, rows_validation, rows_model, and with a calibration rows_calibration.
    """

    fitted: Fitted
    threshold: float
    probability: np.ndarray
    predicted: np.ndarray
    metrics: dict[str, float]
    rows: dict[str, int]

    @property
    def unseen_probability(self) -> np.ndarray:
        """Probabilities of rows that were not seen: held-out ones of the final fit, else those of the validation."""
        return self.fitted.probability if self.fitted.held_out else self.probability


def train_model(
    kind: ModelKind,
    settings: ModelSettings,
    table: pd.DataFrame,
    split: tuple[pd.DataFrame, pd.DataFrame],
    columns: Columns,
    random_seed: int,
    costs: Costs,
) -> Trained:
    """Validate a model on the second part of `split`, then with `refit` fit it again on the whole table.

    The threshold is chosen on held-out probabilities of the whole table, or without `refit` on the validation rows.

    Raises:
        TableUnfit: too few rows for the calibration or the threshold.
    """
    fit = partial(fit_on_table, kind, settings, columns, random_seed)

    def validate() -> Trained:
        train, validation = split
        fitted, labels = fit(train, needs_held_out=False), get_labels(validation, columns.target)
        probability = fitted.pipeline.predict_proba(to_model_input(validation, columns))[:, 1]
        threshold = choose_threshold(settings.threshold, labels, probability, costs)
        predicted = probability >= threshold
        metrics = {f"val_{name}": value for name, value in compute_metrics(labels, probability, predicted).items()}
        rows = {"rows_train": len(train), "rows_validation": len(validation)}
        return Trained(fitted, threshold, probability, predicted, metrics, rows | count_rows(fitted, settings, train))

    if not settings.refit:
        return validate()
    validated, fitted = run_both(
        validate, lambda: fit(table, needs_held_out=isinstance(settings.threshold, str)), is_forest(kind, settings)
    )
    threshold = validated.threshold
    if held_out := fitted.held_out:
        threshold = choose_threshold(settings.threshold, held_out.labels, fitted.probability, costs, held_out.weights)
    rows = validated.rows | count_rows(fitted, settings, table)
    return replace(validated, fitted=fitted, threshold=threshold, rows=rows)


def fit_on_table(
    kind: ModelKind,
    settings: ModelSettings,
    columns: Columns,
    random_seed: int,
    table: pd.DataFrame,
    needs_held_out: bool,
) -> Fitted:
    """Return the model, fitted on all rows of a table."""
    rows, labels = to_model_input(table, columns), get_labels(table, columns.target)
    return kind.fit_with_held_out(settings, columns, rows, labels, random_seed, needs_held_out)


def run_both(validate: Callable[[], Trained], refit: Callable[[], Fitted], together: bool) -> tuple[Trained, Fitted]:
    """Return the results of both, computed at the same time if `together`.

    Half of the work around the fit of a forest runs on one core, so that the other fit can use the second one. Boosting
    uses all cores for each tree, and two fits at the same time would wait for each other.
    """
    if not together:
        return validate(), refit()
    with warnings.catch_warnings(), ThreadPool(1) as pool:  # unlike concurrent.futures, it does not delay Ctrl-C
        # Each thread of scikit-learn resets the filters of warnings, and then warns that a thread of the other fit did.
        warnings.showwarning = lambda *_args, **_options: None
        validation = pool.apply_async(validate)
        fitted = refit()
        return validation.get(), fitted


def is_forest(kind: ModelKind, settings: ModelSettings) -> bool:
    """Return True if this kind of model has trees with out-of-bag rows."""
    return is_out_of_bag(kind.build_classifier(settings, 0, None))


def count_rows(fitted: Fitted, settings: ModelSettings, table: pd.DataFrame) -> dict[str, int]:
    """Return the numbers of rows of a model that was fitted on this table."""
    rows = {"rows_model": len(table)}
    if settings.calibration != NONE and fitted.held_out:
        rows["rows_calibration"] = len(fitted.held_out.labels)
    return rows


def format_fit(trained: Trained, settings: ModelSettings) -> str:
    """Return on how many rows the model is fitted and calibrated, in words."""
    fit = f"{'refitted' if settings.refit else 'fitted'} on {trained.rows['rows_model']:,} rows"
    if trained.fitted.held_out is None or settings.calibration == NONE:
        return f"{fit}, not calibrated"
    source = trained.fitted.held_out.source
    return f"{fit}, calibrated ({settings.calibration}) on {trained.rows['rows_calibration']:,} {source} scores"
