"""The keys of config.yaml's `serve`: what the scorer serves, where, within which limits, and what it records."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from stepkit.table.columns import Strict

_NAME = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]*?))\s*(?:,|$)""")
"""One name of a list, in quotation marks or without, up to the next comma."""


def _parse_names(value: Any) -> Any:
    """Return the names of a list that was typed: a,b,c, or as YAML writes it: [a, "b", c]; none for null."""
    if not isinstance(value, str):
        return [] if value is None else value
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [name for names in _NAME.findall(text) if (name := "".join(names))]


Share = Annotated[float, Field(ge=0.0, le=1.0)]
TextOrNull = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Names = Annotated[list[str], BeforeValidator(_parse_names)]


def make_setting(default: Any, meaning: str, **limits: Any) -> Any:
    """Return the field of a setting; config.yaml, --help and the reference page show its meaning."""
    return Field(default, description=meaning, **limits)


class Serving(Strict):
    """Each key with its default, which counts where config.yaml does not name the key."""

    model_name: TextOrNull = make_setting("", "registered model; null: register.model_name", pattern=r"^[^/:]*$")
    alias: str = make_setting("champion", "the alias that is followed: its newest version answers", pattern=r"^\w+$")
    shadow_alias: TextOrNull = make_setting(
        "", "an alias scored beside it, on record and never answered, e.g. challenger; null: none", pattern=r"^\w*$"
    )
    host: str = make_setting("127.0.0.1", "0.0.0.0 lets other machines ask; then set SCORER_API_KEY", min_length=1)
    port: int = make_setting(5000, "port to listen on", ge=1, le=65535)
    workers: PositiveInt = make_setting(1, "processes that answer")
    poll_seconds: PositiveFloat = make_setting(2.0, "how often the registry is asked for a new champion")
    slowest_ms: PositiveFloat = make_setting(
        50.0, "a version that takes longer for one row is refused, and the old one stays"
    )
    allow_signature_change: bool = make_setting(False, "take a champion whose columns differ from the old one's")
    shadow_queue: PositiveInt = make_setting(
        10_000, "rows that may wait for the shadow model; others are dropped and counted"
    )
    max_body_mb: PositiveFloat = make_setting(8.0, "a larger body is answered with 413")
    request_seconds: PositiveFloat = make_setting(60.0, "a request that takes longer is answered with 504")
    stop_seconds: PositiveInt = make_setting(30, "how long what was accepted may take after SIGTERM")
    log_url: TextOrNull = make_setting(
        "",
        "prediction log: sqlite:///FILE or postgresql://...; null: PREDICTION_LOG_URL, the place for an address with a "
        "password, else predictions.db in the repository root",
    )
    keep_days: PositiveInt | None = make_setting(None, "older predictions are removed; null: kept for ever")
    redact: Names = make_setting([], "columns whose values are never written to the log")
    sample_rate: Share = make_setting(1.0, "share of the requests that is written to the log; the others are counted")
    when_unavailable: Literal["refuse", "answer"] = make_setting(
        "refuse", "an answer that cannot be put on record: refuse it with 503, or answer and count it"
    )

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 2**20)
