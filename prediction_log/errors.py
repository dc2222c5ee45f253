"""Errors of the prediction log."""

from __future__ import annotations

from collections.abc import Sequence

from stepkit.errors import StepError


class LogUnavailable(StepError):
    """The prediction log cannot be read or written now; no prediction that failed with this error was acknowledged."""


class LogUnfit(StepError):
    """The URL does not lead to a prediction log, or this code does not know the log's schema."""


class LogDamaged(LogUnfit):
    """The log's file is not an SQLite database, or its pages are inconsistent."""


class RequestIdTaken(StepError):
    """The log already holds a request with this id and other rows."""


class FeedbackUnfit(StepError):
    """Labels are rejected: a table without the columns, a label that is not 0 or 1, an unknown request."""


class RedactUnfit(StepError):
    """`redact` names columns that the model lacks; a misspelled name would leave the real column in the log."""

    def __init__(self, unknown: Sequence[str], columns: Sequence[str]) -> None:
        super().__init__(f"redact: the model has no column {', '.join(unknown)}. Its columns: {', '.join(columns)}.")
        self.unknown = unknown
