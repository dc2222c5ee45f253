"""The keys of config.yaml's `serve`: what the scorer serves, where, within which limits, and what it records."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from stepkit.table.columns import Strict

_NAME = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?:,|$)""")
"""One name of a list, in quotation marks or without, up to the next comma."""


def _as_list(value: Any) -> Any:
    """Return the names of a list that was typed: a,b,c, or as YAML writes it: [a, "b", c]; none for null."""
    if not isinstance(value, str):
        return [] if value is None else value
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    words = (
        word[1:-1] if word[:1] in ("'", '"') and word[1:].endswith(word[0]) else word for word in _NAME.findall(text)
    )
    return [word for word in words if word]


def _none_as_empty(value: Any) -> Any:
    return "" if value is None else value


Share = Annotated[float, Field(ge=0.0, le=1.0)]
TextOrNull = Annotated[str, BeforeValidator(_none_as_empty)]
Names = Annotated[list[str], BeforeValidator(_as_list)]


class Serving(Strict):
    """Each key with its default, which counts where config.yaml does not name the key."""

    model_name: TextOrNull = Field("", pattern=r"^[^/:]*$", description="registered model; null: register.model_name")
    alias: str = Field(
        "champion", pattern=r"^\w+$", description="the alias that is followed: its newest version answers"
    )
    shadow_alias: TextOrNull = Field(
        "",
        pattern=r"^\w*$",
        description="an alias scored beside it, on record and never answered, e.g. challenger; null: none",
    )
    host: str = Field("127.0.0.1", min_length=1, description="0.0.0.0 lets other machines ask; then set SCORER_API_KEY")
    port: int = Field(5000, ge=1, le=65535, description="port to listen on")
    workers: PositiveInt = Field(1, description="processes that answer")
    poll_seconds: PositiveFloat = Field(2.0, description="how often the registry is asked for a new champion")
    slowest_ms: PositiveFloat = Field(
        50.0, description="a version that takes longer for one row is refused, and the old one stays"
    )
    allow_signature_change: bool = Field(False, description="take a champion whose columns differ from the old one's")
    shadow_queue: PositiveInt = Field(
        10_000, description="rows that may wait for the shadow model; others are dropped and counted"
    )
    max_body_mb: PositiveFloat = Field(8.0, description="a larger body is answered with 413")
    request_seconds: PositiveFloat = Field(60.0, description="a request that takes longer is answered with 504")
    stop_seconds: PositiveInt = Field(30, description="how long what was accepted may take after SIGTERM")
    log_url: TextOrNull = Field(
        "",
        description="prediction log: sqlite:///FILE or postgresql://...; null: PREDICTION_LOG_URL, the place for an "
        "address with a password, else predictions.db in the repository root",
    )
    keep_days: PositiveInt | None = Field(None, description="older predictions are removed; null: kept for ever")
    redact: Names = Field(default_factory=list, description="columns whose values are never written to the log")
    sample_rate: Share = Field(
        1.0, description="share of the requests that is written to the log; the others are counted"
    )
    when_unavailable: Literal["refuse", "answer"] = Field(
        "refuse", description="an answer that cannot be put on record: refuse it with 503, or answer and count it"
    )
