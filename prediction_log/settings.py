"""The settings of the prediction log: `serve` of config.yaml, or PREDICTION_LOG_SETTINGS as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from prediction_log.errors import RedactUnfit
from stepkit.table.columns import Strict

DEFAULT_URL = "sqlite:///predictions.db"
URL_VARIABLE = "PREDICTION_LOG_URL"
SETTINGS_VARIABLE = "PREDICTION_LOG_SETTINGS"


class LogSettings(Strict):
    """What is kept, how long, and what happens to an answer that cannot be put on record."""

    keep_days: PositiveInt | None = None
    """Predictions older than this are removed, about once an hour; null: kept for ever."""

    redact: list[str] = Field(default_factory=list)
    """Columns whose values are never written: they stand as null in the log."""

    sample_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of requests that is kept; the request's id decides, so that all rows of a request share its fate."""

    when_unavailable: Literal["refuse", "answer"] = "refuse"
    """What a server does with an answer that cannot be written down."""

    def verify_redact(self, columns: Sequence[str]) -> None:
        """Raise RedactUnfit if `redact` names a column that is not among those of a model."""
        if unknown := sorted({*self.redact} - {*columns}):
            raise RedactUnfit(unknown, columns)
