"""POST /feedback: the true label of one answered row -> the prediction log."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt, ValidationError

from prediction_log.labels import write_labels
from prediction_log.writer import PredictionLog
from serve.http import metrics
from serve.http.refusals import make_bad_request, make_refusal
from stepkit.table.columns import Strict, format_first_problem

LARGEST_ROW = 2**31 - 1


def _to_whole_number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[StrictInt, BeforeValidator(_to_whole_number)]
"""JSON has one kind of number: 1.0 is an integer there."""


class Label(Strict):
    """The true class of one row of one answered request."""

    request_id: str = Field(min_length=1, max_length=200)
    row: WholeNumber = Field(0, ge=0, le=LARGEST_ROW)
    label: WholeNumber = Field(ge=0, le=1)


def parse_label(body: bytes) -> Label:
    """Return the label of a JSON body; raise Refusal (400) with the field that does not fit."""
    try:
        return Label.model_validate_json(body)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        raise make_bad_request(format_first_problem(error), str(place[0] if place else "") or "body") from error


def record_label(log: PredictionLog, label: Label) -> dict[str, Any]:
    """Put a label on record and return what became of it: new, repeated (no change) or changed.

    Raises Refusal (404) for a row that is not on record, and LogUnavailable or LogUnfit as the log.
    """
    counts = log.commit_with_retries(lambda: write_labels(log.engine, [(label.request_id, label.row, label.label)]))
    if counts.unknown:
        metrics.feedback.labels("unknown").inc()
        raise make_refusal("UNKNOWN_REQUEST", row=label.row)
    result = "new" if counts.new else "changed" if counts.changed else "repeated"
    metrics.feedback.labels(result).inc()
    return {**label.model_dump(), "result": result}
