"""Settings of the prediction log: the section `serve` of config.yaml, or PREDICTION_LOG_SETTINGS as JSON."""

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
    """Content of the log, its retention, and the behaviour of a server if the log cannot be written."""

    keep_days: PositiveInt | None = None
    """Older predictions are deleted, about once an hour; null: never."""

    redact: list[str] = Field(default_factory=list)
    """Columns whose values are stored as null."""

    sample_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of requests to log. The request id decides, so a request is logged with all its rows or not at all."""

    when_unavailable: Literal["refuse", "answer"] = "refuse"
    """Behaviour of a server if the log cannot be written: refuse the request, or answer without logging."""

    def verify_redact(self, columns: Sequence[str]) -> None:
        """Raise RedactUnfit if `redact` names a column that is not in a model's `columns`."""
        if unknown := sorted({*self.redact} - {*columns}):
            raise RedactUnfit(unknown, columns)
