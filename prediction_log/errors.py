"""Errors of the prediction log."""

from __future__ import annotations

from collections.abc import Sequence

from stepkit.errors import StepError


class LogUnavailable(StepError):
    """The prediction log cannot be read or written now; nothing that failed with this was acknowledged."""


class LogUnfit(StepError):
    """The address is of no prediction log, or of one whose schema this code does not know."""


class LogDamaged(LogUnfit):
    """The file of the log is not an SQLite database, or its pages do not fit together."""


class RequestIdTaken(StepError):
    """Another request with this id, and other rows, is on record already."""


class FeedbackUnfit(StepError):
    """Labels cannot be taken: a table without the columns, a label that is not 0 or 1, an unknown request."""


class RedactUnfit(StepError):
    """`redact` names columns that a model lacks; the columns that were meant would be recorded."""

    def __init__(self, unknown: Sequence[str], columns: Sequence[str]) -> None:
        names, known = ", ".join(unknown), ", ".join(columns)
        super().__init__(f"redact names {names}, which is not a column of the model ({known}).")
        self.unknown = unknown
