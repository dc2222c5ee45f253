"""The scorer's settings: every key with its default; run.py takes each as a flag of the same name."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from serve.record.settings import LogSettings
from stepkit.columns import Strict, first_problem
from stepkit.errors import BadParameter

HANDED_OVER = "SCORER_SETTINGS"
"""Variable by which run.py hands its settings to the worker processes that uvicorn starts."""


def _as_list(value: Any) -> Any:
    return [word for word in value.split(",") if word] if isinstance(value, str) else value


def _empty_as_none(value: Any) -> Any:
    return None if value == "" else value


Days = Annotated[PositiveInt | None, BeforeValidator(_empty_as_none)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Names = Annotated[list[str], BeforeValidator(_as_list)]


class ServeSettings(Strict):
    """What the scorer serves, where, within which limits, and how it keeps its record."""

    model_name: str = Field("credit_default", pattern=r"^[^/:]+$", description="registered model to serve")
    alias: str = Field("champion", pattern=r"^\w+$", description="the alias that is followed")
    shadow_alias: str = Field("", pattern=r"^\w*$", description="alias scored beside it, never answered; empty: none")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(5000, ge=1, le=65535, description="port to listen on")
    workers: PositiveInt = Field(1, description="processes that answer")
    poll_seconds: PositiveFloat = Field(2.0, description="how often the aliases are looked up")
    slowest_ms: PositiveFloat = Field(50.0, description="a model that takes longer for one row is refused")
    allow_signature_change: bool = Field(False, description="take a champion whose columns differ from the old one's")
    shadow_queue: PositiveInt = Field(1000, description="requests that may wait for the shadow model")
    max_body_mb: PositiveFloat = Field(8.0, description="a larger body is answered with 413")
    request_seconds: PositiveFloat = Field(60.0, description="a request that takes longer is answered with 504")
    stop_seconds: PositiveInt = Field(30, description="how long accepted requests may take after SIGTERM")
    log_url: str = Field("", description="prediction log; empty: PREDICTION_LOG_URL, else predictions.db in the root")
    keep_days: Days = Field(None, description="older predictions are removed; empty: kept for ever")
    redact: Names = Field(default_factory=list, description="columns whose values are not recorded; a,b,c")
    sample_rate: Share = Field(1.0, description="share of requests that is recorded; the rest is counted")
    when_unavailable: Literal["refuse", "answer"] = Field("refuse", description="what to do when the log is gone")

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 2**20)

    @property
    def log(self) -> LogSettings:
        return LogSettings(
            keep_days=self.keep_days,
            redact=self.redact,
            sample_rate=self.sample_rate,
            when_unavailable=self.when_unavailable,
        )


def settings_from(values: dict[str, Any]) -> ServeSettings:
    """Return the settings for what was typed.

    Raises:
        BadParameter: an unknown key or a value that does not fit; the message names it.
    """
    try:
        return ServeSettings(**values)
    except ValueError as error:
        raise BadParameter(f"scorer setting {first_problem(error)}. The known ones: python run.py --help") from error


def handed_over() -> ServeSettings:
    """Return the settings of the process that started this one; the defaults when there is none."""
    return ServeSettings.model_validate_json(os.environ.get(HANDED_OVER, "{}"))
