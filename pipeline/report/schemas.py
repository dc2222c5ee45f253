"""The forms of evaluation.json and verdict.json, as far as a report shows them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stepkit.table.columns import format_first_problem


class Form(BaseModel):
    """Leaves out keys that it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


Kind = TypeVar("Kind", bound=Form)


class Estimate(Form):
    """A number with its interval; None where it could not be computed."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


Estimates = dict[str, Estimate]


class Champion(Form):
    version: str
    reason_not_compared: str | None = None
    rows_compared: int
    rows_excluded: int
    rows_unknown: str | None = None
    metrics: Estimates


class Confusion(Form):
    tn: int
    fp: int
    fn: int
    tp: int


class Cost(Form):
    matrix: dict[str, float]
    per_row: float
    total: float


class Slice(Form):
    column: str
    label: str
    rows: int
    positives: int
    metrics: Estimates


class Importance(Estimate):
    label: str


class Intervals(Form):
    method: str
    resamples: int
    seed: int
    level: float


class Evaluation(Form):
    """Results of evaluate on the test split; of a run whose evaluation.json is lost only the metrics are known."""

    rows: int | None = None
    positives: int | None = None
    threshold: float | None = None
    metrics: Estimates
    calibration_bins: str | None = None
    champion: Champion | None = None
    difference: Estimates = {}
    confusion: Confusion | None = None
    cost: Cost | None = None
    slices: list[Slice] = []
    worst_slice: Slice | None = None
    importance: list[Importance] = []
    intervals: Intervals | None = None

    def get_estimate(self, metric: str) -> Estimate:
        return self.metrics.get(metric, Estimate())


class Rule(Form):
    name: str
    value: float | None
    threshold: float | None
    passed: bool
    reason: str


class Verdict(Form):
    passed: bool
    outcome: str
    rules: list[Rule]


def parse_as(form: type[Kind], content: Any, name: str, lost: list[str]) -> Kind | None:
    """Return the content of a JSON artifact as a `form`; None, and a sentence in `lost`, if it has another one."""
    if content is None:
        return None
    try:
        return form.model_validate(content)
    except ValidationError as error:
        lost.append(f"{name} has a form that this report does not know ({format_first_problem(error)}).")
        return None
