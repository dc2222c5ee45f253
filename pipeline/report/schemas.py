"""Schemas of evaluation.json and verdict.json: the fields that a report shows."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stepkit.table.columns import format_first_problem


class Form(BaseModel):
    """Base of the schemas. Unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


Kind = TypeVar("Kind", bound=Form)


class Estimate(Form):
    """Number with its interval; None if it could not be computed."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


Estimates = dict[str, Estimate]


class Champion(Form):
    """Champion on the same test rows."""

    version: str
    reason_not_compared: str | None = None
    rows_compared: int
    rows_excluded: int
    rows_unknown: str | None = None
    metrics: Estimates


class Confusion(Form):
    """Counts of true and false negatives and positives."""

    tn: int
    fp: int
    fn: int
    tp: int


class Cost(Form):
    """Cost of the mistakes, in the unit of evaluate.costs."""

    matrix: dict[str, float]
    per_row: float
    total: float


class Slice(Form):
    """Group of test rows with its metrics."""

    column: str
    label: str
    rows: int
    positives: int
    metrics: Estimates


class Importance(Estimate):
    """Loss of ROC AUC when one column is shuffled, and the mean absolute effect of the column."""

    label: str
    column: str = ""
    effect: float | None = None


class Period(Form):
    """Test rows of one period. Without an AUC and a calibration error, `reason` states why."""

    period: str
    rows: int
    default_rate: float
    mean_probability: float
    excess: Estimate = Estimate()
    roc_auc: Estimate | None = None
    calibration_error: float | None = None
    reason: str | None = None


class Periods(Form):
    """Test rows by the date in a column; `undated` rows have none."""

    column: str
    unit: str
    undated: int = 0
    periods: list[Period]


class Baseline(Form):
    """Baseline on the test rows, and the model's ROC AUC minus that of the baseline."""

    label: str
    roc_auc: Estimate
    gini: Estimate
    difference: Estimate


class Suspicion(Form):
    """Column that alone ranks the training rows suspiciously well."""

    column: str
    auc: float
    checked: bool


class Baselines(Form):
    """Comparison with the baselines."""

    rows: int
    reason_not_compared: str | None = None
    results: list[Baseline]
    suspicions: list[Suspicion] = []


class Intervals(Form):
    """Method of the intervals."""

    method: str
    resamples: int
    seed: int
    level: float


class KsEstimate(Estimate):
    """KS statistic, and the probability at which it occurs."""

    score: float | None = None


class Decile(Form):
    """Row of the gains table."""

    decile: int
    rows: int
    defaults: int
    default_rate: float
    capture: float
    lift: float
    mean_probability: float
    lowest: float
    highest: float


class Cutoff(Form):
    """Strategy that approves the rows below a cutoff. The default rate is None if no row is approved."""

    cutoff: float | None = None
    approval_rate: float
    default_rate: float | None = None
    cost_per_row: float


class Strategy(Form):
    """Strategy curve, and its point at the model's threshold."""

    chosen: Cutoff
    cutoffs: list[Cutoff]


class Credit(Form):
    """Credit sheet, or the reason why it was left out."""

    left_out: str = ""
    gini: Estimate = Estimate()
    ks: KsEstimate = KsEstimate()
    gains: list[Decile] = []
    strategy: Strategy | None = None


class StabilityIndex(Form):
    """Stability index of the score or of a column; without a value, the reason."""

    column: str = ""
    label: str = ""
    value: float | None = None
    threshold: float | None = None
    bins: int = 0
    reason: str = ""

    @property
    def is_above_threshold(self) -> bool:
        """True if the index is larger than that of samples of one population."""
        return self.value is not None and self.threshold is not None and self.value > self.threshold


class Stability(Form):
    """Comparison of the test rows with the training rows; `reason` names the cause if there is none."""

    reason: str = ""
    level: float | None = None
    training_rows: int | None = None
    rows: int | None = None
    psi_score: StabilityIndex | None = None
    csi: list[StabilityIndex] = []


class Calibration(Form):
    """Calibration error, the part that chance explains, and the excess."""

    error: float | None = None
    expected: float | None = None
    excess: Estimate = Estimate()
    rows: int | None = None


class FairnessGroup(Form):
    """Group of a protected column."""

    label: str
    rows: int
    approval_rate: Estimate = Estimate()
    true_positive_rate: Estimate = Estimate()
    false_positive_rate: Estimate = Estimate()
    calibration: Estimate = Estimate()
    approval_ratio: Estimate = Estimate()
    opportunity_gap: Estimate = Estimate()


class CostOfProtected(Estimate):
    """ROC AUC of the model minus that of the same model without the protected columns."""

    columns: list[str]


class ProtectedColumn(Form):
    """Groups of a protected column, and the reason why they are not compared."""

    label: str
    groups: list[FairnessGroup]
    reason: str = ""


class Evaluation(Form):
    """Results of evaluate on the test split. If evaluation.json is lost, only the metrics are known."""

    rows: int | None = None
    positives: int | None = None
    threshold: float | None = None
    metrics: Estimates
    calibration_bins: str | None = None
    calibration: Calibration | None = None
    champion: Champion | None = None
    difference: Estimates = {}
    confusion: Confusion | None = None
    cost: Cost | None = None
    credit: Credit | None = None
    slices: list[Slice] = []
    worst_slice: Slice | None = None
    importance: list[Importance] = []
    reference_row: dict[str, int | float | str | None] = {}
    fairness: list[ProtectedColumn] = []
    cost_of_protected: CostOfProtected | None = None
    stability: Stability | None = None
    periods: Periods | None = None
    intervals: Intervals | None = None
    baselines: Baselines | None = None

    def get_estimate(self, metric: str) -> Estimate:
        """Return a metric, or an empty estimate."""
        return self.metrics.get(metric, Estimate())


class Rule(Form):
    """Rule of the gate with its outcome."""

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    reason: str


class Verdict(Form):
    """Decision of the gate."""

    passed: bool
    outcome: str
    rules: list[Rule]
    champion_failed: list[Rule] = []


def parse_as(form: type[Kind], content: Any, name: str, lost: list[str]) -> Kind | None:
    """Return JSON as a `form`. If it does not match, add a sentence to `lost` and return None."""
    if content is None:
        return None
    try:
        return form.model_validate(content)
    except ValidationError as error:
        lost.append(f"{name} has an unknown format ({format_first_problem(error)}).")
        return None
