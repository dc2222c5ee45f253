"""Logistic regression on imputed, scaled and one-hot encoded columns: a model step, and a baseline of every model."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression

from stepkit.settings.model import LogisticRegressionSettings


def build_classifier(
    settings: LogisticRegressionSettings,
    random_seed: int,
    monotonic: list[int] | None = None,  # noqa: ARG001 - the sign of a coefficient cannot be limited
) -> LogisticRegression:
    """Return the unfitted logistic regression; it ignores the directions of the encoded features."""
    solver = "saga" if settings.logistic_regression.l1_ratio else "lbfgs"  # lbfgs is faster but takes no lasso penalty
    return LogisticRegression(solver=solver, random_state=random_seed, **settings.logistic_regression.model_dump())
