"""Stability of the score and of each column: the test split compared with the profile of the training rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import RunData

from stepkit.model.binning import Stability
from stepkit.model.profile import TRAINING_PROFILE, Profile, compare_with_profile
from stepkit.model.statistics import compute_sidak_level
from stepkit.step.run import StepRun
from stepkit.store.lineage import OUTPUT
from stepkit.table.columns import Columns

NO_PROFILE = f"the training run published no {TRAINING_PROFILE}, as runs of earlier releases"


def fetch_profile(run: StepRun, run_id: str, training: RunData) -> Profile | None:
    """Return the profile of the training rows, or None if the training run did not publish it."""
    if OUTPUT + TRAINING_PROFILE not in training.tags:
        return None
    profile: Profile = json.loads(run.fetch(run_id, TRAINING_PROFILE, record=False).read_text(encoding="utf-8"))
    return profile


def build_stability(
    profile: Profile | None, table: pd.DataFrame, probability: np.ndarray, columns: Columns, level: float
) -> dict[str, Any]:
    """Return the key `stability` of evaluation.json.

    `psi_score` is the population stability index of the score, `csi` that of each column, the largest first. An index
    of an unchanged population is above one of the thresholds with the probability 1 - level.

    Args:
        profile: profile of the training rows.
        table: n test rows.
        probability: (n,) probabilities.
        columns: description of the data set.
        level: confidence level of the evaluation.
    """
    if profile is None:
        return {"reason": NO_PROFILE}
    names = [name for name in columns.names if name in profile["columns"]]
    per_test = compute_sidak_level(1 - level, len(names) + 1)
    csi = {name: compare_with_profile(profile["columns"][name], table[name], per_test) for name in names}
    labels = {name: columns.columns[name].label or name for name in names}
    return {
        "reason": "",
        "level": level,
        "training_rows": profile["rows"],
        "rows": len(table),
        "psi_score": asdict(compare_with_profile(profile["score"], pd.Series(probability), per_test)),
        "csi": [
            {"column": name, "label": labels[name], **asdict(csi[name])}
            for name in sorted(names, key=lambda name: _get_order(csi[name]))
        ],
    }


def _get_order(stability: Stability) -> float:
    return np.inf if stability.value is None else -stability.value
