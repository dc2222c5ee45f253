"""Importance of the encoded features in a fitted classifier, in the terms of its kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier


def get_importances(classifier: Any) -> np.ndarray:
    """Return the (k,) importances of k encoded features, with sum 1; all are 0 if the classifier uses no feature.

    They are the impurity that a forest's splits remove, the loss that the splits of boosting remove, or the absolute
    coefficients of a linear model.
    """
    if isinstance(classifier, HistGradientBoostingClassifier):
        importances = sum_gains(classifier)
    elif hasattr(classifier, "coef_"):
        importances = np.abs(classifier.coef_[0])
    else:
        importances = classifier.feature_importances_
    total = importances.sum()
    return importances / total if total > 0 else importances


def sum_gains(boosting: HistGradientBoostingClassifier) -> np.ndarray:
    """Return the (k,) sums of the gains of all splits by each feature; scikit-learn does not publish them."""
    nodes = np.concatenate([tree.nodes for (tree,) in boosting._predictors])
    inner = nodes[nodes["is_leaf"] == 0]
    gains: np.ndarray = np.bincount(inner["feature_idx"], inner["gain"], minlength=boosting.n_features_in_).astype(
        float
    )
    return gains
