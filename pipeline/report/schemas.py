"""The forms of evaluation.json and verdict.json, as far as a report shows them; what is not there stays None."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stepkit.table.columns import first_problem


class Loose(BaseModel):
    """Takes files of older and of newer runs: keys that are not known are left out, others may be missing."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


Form = TypeVar("Form", bound=Loose)


class Estimate(Loose):
    """A number with its interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


Estimates = dict[str, Estimate]


class Champion(Loose):
    version: str | int | None = None
    reason_not_compared: str | None = None
    rows_compared: int | None = None
    rows_excluded: int | None = None
    rows_unknown: str | None = None
    metrics: Estimates | None = None


class Confusion(Loose):
    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def total(self) -> int:
        return self.tn + self.fp + self.fn + self.tp


class Cost(Loose):
    matrix: Any = None
    per_row: float | None = None
    total: float | None = None


class Slice(Loose):
    column: str
    value: str | int | float | None = None
    label: str | None = None
    rows: int | None = None
    positives: int | None = None
    metrics: Estimates = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.label or f"{self.column}: {self.value}"


class Importance(Estimate):
    column: str
    label: str | None = None


class Intervals(Loose):
    method: str | None = None
    resamples: int | None = None
    seed: int | None = None
    level: float | None = None


class Evaluation(Loose):
    """What evaluate found on the test split."""

    rows: int | None = None
    positives: int | None = None
    threshold: float | None = None
    metrics: Estimates = Field(default_factory=dict)
    champion: Champion | None = None
    difference: Estimates | None = None
    confusion: Confusion | None = None
    cost: Cost | None = None
    slices: list[Slice] = Field(default_factory=list)
    worst_slice: Any = None
    importance: list[Importance] = Field(default_factory=list)
    intervals: Intervals | None = None

    def value(self, metric: str) -> float | None:
        return self.metrics.get(metric, Estimate()).value


class Rule(Loose):
    name: str
    value: Any = None
    threshold: Any = None
    passed: bool
    reason: str = ""


class Verdict(Loose):
    passed: bool
    outcome: str | None = None
    rules: list[Rule] = Field(default_factory=list)
    champion_version: str | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    champion_metrics: dict[str, Any] | None = None


def read_as(form: type[Form], found: Any, name: str, lost: list[str]) -> Form | None:
    """Take what a JSON artifact holds as a `form`; None, and a word in `lost`, if it is of another one."""
    if found is None:
        return None
    try:
        return form.model_validate(found)
    except ValidationError as error:
        lost.append(f"{name} has a form that this report does not know ({first_problem(error)}).")
        return None
