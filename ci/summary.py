"""The form of summary.json: what a pipeline run in CI found, as it goes from the job that ran it to the one that posts.

The second job may write to the repository, and the first may have run anyone's code: what it reads is data of this
form and no other, with every text and number within bounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt

MOST_BYTES = 200_000
"""A file that is larger is refused unread; an honest one has about 5,000."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]{1,80}$")]
Words = Annotated[str, Field(max_length=600)]
Commit = Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")]


class Form(BaseModel):
    """Refuses keys that are not known, and to be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Measure(Form):
    """A metric; low and high are the ends of its interval, where it has one."""

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


Measures = Annotated[dict[Name, Measure], Field(max_length=40)]


class Base(Form):
    """What main's last run found."""

    commit: Commit = ""
    data: Name
    metrics: Measures


class Confusion(Form):
    """Rows of the test split by their true class (first letter of the meaning: negative, positive) and the model's.

    `classes` are the names of class 0 and class 1 in the source.
    """

    tn: NonNegativeInt
    fp: NonNegativeInt
    fn: NonNegativeInt
    tp: NonNegativeInt
    classes: tuple[Words, Words] = ("0", "1")


class Checks(Form):
    """How many data checks ended how."""

    passed: NonNegativeInt
    failed: NonNegativeInt
    skipped: NonNegativeInt
    said: Words = ""


class Verdict(Form):
    passed: bool
    reasons: Annotated[list[Words], Field(max_length=20)]


class StepLine(Form):
    """One step: seconds is what its run took, now or when it was made."""

    name: Name
    state: Literal["ran", "reused", "failed", "not run"]
    seconds: Annotated[FiniteFloat, Field(ge=0)] | None = None
    said: Words = ""
    why: Words = ""


class Summary(Form):
    """All that the comment shows."""

    form: Literal[1] = 1
    data: Name
    commit: Commit = ""
    succeeded: bool
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    metrics: Measures = Field(default_factory=dict)
    base: Base | None = None
    confusion: Confusion | None = None
    checks: Checks | None = None
    verdict: Verdict | None = None
    steps: Annotated[list[StepLine], Field(max_length=40)]
    model: Words = ""
    error: Annotated[str, Field(max_length=4000)] = ""


def as_base(summary: Summary) -> Base:
    """What a run of main leaves for the runs of branches to be held against."""
    return Base(commit=summary.commit, data=summary.data, metrics=summary.metrics)
