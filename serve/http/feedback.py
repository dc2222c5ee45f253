"""POST /feedback: true label of one scored row -> prediction log."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, StrictInt, ValidationError

from prediction_log.answers import LARGEST_ROW
from prediction_log.labels import write_labels
from prediction_log.writer import PredictionLog
from serve.http import metrics
from serve.http.refusals import make_bad_request, make_refusal
from stepkit.table.columns import Strict, format_first_problem

EXPECTED = "Expected keys: request_id (text), row (from 0; may be omitted), label (0 or 1)."


def _to_whole_number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Form = TypeVar("Form", bound=Strict)
WholeNumber = Annotated[StrictInt, BeforeValidator(_to_whole_number)]
"""JSON has one type of number, in which 1.0 is an integer."""


class Label(Strict):
    """True class of one row of one scored request."""

    request_id: str = Field(min_length=1, max_length=200)
    row: WholeNumber = Field(0, ge=0, le=LARGEST_ROW)
    label: WholeNumber = Field(ge=0, le=1)


def parse_label(body: bytes) -> Label:
    """Return the label in a JSON body; raise Refusal (400) that names the wrong field."""
    return parse_strict(Label, body, EXPECTED)


def parse_strict(form: type[Form], body: bytes, expected: str) -> Form:
    """Return a JSON body as `form`; raise Refusal (400) that names the wrong field and the expected keys."""
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        field = str(location[0] if location else "") or "body"
        problem = format_first_problem(error)
        subject = "" if location else "body: "
        raise make_bad_request(f"{subject}{problem}. {expected}", field) from error


def record_label(log: PredictionLog, label: Label) -> dict[str, Any]:
    """Record a label; return its fields and the `result`: new, repeated (no change) or changed.

    Raises:
        Refusal: (404) the prediction log has no such row.
        LogUnavailable, LogUnfit: the prediction log cannot be used.
    """
    counts = log.commit_with_retries(lambda: write_labels(log.engine, [(label.request_id, label.row, label.label)]))
    if counts.unknown:
        metrics.feedback.labels("unknown").inc()
        raise make_refusal("UNKNOWN_REQUEST", row=label.row)
    result = "new" if counts.new else "changed" if counts.changed else "repeated"
    metrics.feedback.labels(result).inc()
    return {**label.model_dump(), "result": result}
