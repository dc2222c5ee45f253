"""Comparison with the baselines of the model's run: the best single column and a logistic regression."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
from mlflow.entities import RunData

from stepkit.model.baselines import BASELINES, Baselines
from stepkit.model.metrics import Scored
from stepkit.model.single_column import Suspicion, find_suspicions
from stepkit.model.statistics import Interval, compute_auc_difference, compute_auc_interval
from stepkit.step.run import StepRun
from stepkit.store.lineage import OUTPUT
from stepkit.table.columns import Columns

SINGLE_COLUMN, LOGISTIC_REGRESSION = "single_column", "logistic_regression"
NO_BASELINES = f"the model's run has no {BASELINES}, as runs of earlier releases"


@dataclass(frozen=True)
class BaselineResult:
    """Baseline on the test split.

    Attributes:
        name: single_column or logistic_regression.
        label: the baseline in words.
        roc_auc: its ROC AUC.
        difference: ROC AUC of the model minus that of the baseline, on the same rows.
    """

    name: str
    label: str
    roc_auc: Interval
    difference: Interval

    @property
    def rule(self) -> str:
        """Name of the gate's rule about this baseline."""
        return f"not_worse_than_{self.name}"

    @property
    def is_beaten(self) -> bool:
        """True if the model is shown to be better."""
        return self.difference.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Return the baseline as in evaluation.json."""
        return {**asdict(self), "gini": to_gini(self.roc_auc).to_dict()}


@dataclass(frozen=True)
class BaselineComparison:
    """Comparison of a model with its baselines, and the columns that rank the training rows suspiciously well.

    Attributes:
        rows: training rows of the baselines.
        aucs: ROC AUC of each input column alone on the training rows.
        reason_not_compared: reason why the baselines are missing; "" if they are not.
    """

    rows: int = 0
    results: list[BaselineResult] = field(default_factory=list)
    aucs: dict[str, float] = field(default_factory=dict)
    suspicions: list[Suspicion] = field(default_factory=list)
    reason_not_compared: str = ""

    def explain_not_better(self, failed: set[str]) -> str:
        """Return a warning that names the baselines which the model is not shown to beat; "" if there are none.

        `failed` are the names of failed rules, whose reasons contain more.
        """
        names = [result.label for result in self.results if not result.is_beaten and result.rule not in failed]
        return f"not shown to be better than {' and '.join(names)}" if names else ""

    def to_report(self) -> dict[str, Any]:
        """Return the key `baselines` of evaluation.json."""
        content = {
            "rows": self.rows,
            "reason_not_compared": self.reason_not_compared or None,
            "results": [result.to_dict() for result in self.results],
            "suspicions": [asdict(suspicion) for suspicion in self.suspicions],
        }
        return {"baselines": content}


def to_gini(auc: Interval) -> Interval:
    """Return the Gini coefficient, 2 AUC - 1, with its interval."""
    return Interval(*(2 * value - 1 for value in (auc.value, auc.low, auc.high)))


def read_baselines(run: StepRun, model_run: str, training: RunData) -> Baselines | None:
    """Return the baselines that the model's run published; None for a run of an earlier release.

    Raises:
        ArtifactMissing: the file was published and is no longer in the store.
        ArtifactDamaged: the file was altered.
    """
    if OUTPUT + BASELINES not in training.tags:
        return None
    return Baselines.model_validate_json(run.fetch(model_run, BASELINES).read_bytes())


def compare_with_baselines(
    baselines: Baselines | None,
    table: pd.DataFrame,
    columns: Columns,
    scored: Scored,
    level: float,
) -> BaselineComparison:
    """Score n test rows with each baseline, and compare the model's predictions `scored` with it by ROC AUC."""
    if baselines is None:
        return BaselineComparison(reason_not_compared=NO_BASELINES)
    scores = {}
    if single := baselines.single_column:
        label = columns.columns[single.column].label
        name = f"{single.column} ({label})" if label and label != single.column else single.column
        scores[SINGLE_COLUMN] = (f"the column {name} alone", single.compute_scores(table, columns))
    scores[LOGISTIC_REGRESSION] = (
        "a logistic regression",
        baselines.logistic_regression.compute_scores(table, columns),
    )
    results = [
        BaselineResult(
            name,
            label,
            compute_auc_interval(scored.labels, values, level),
            compute_auc_difference(scored.labels, scored.probability, values, level),
        )
        for name, (label, values) in scores.items()
    ]
    return BaselineComparison(baselines.rows, results, baselines.aucs, find_suspicions(baselines.aucs, columns))
