"""Schema of the section `serve` of config.yaml: model, address, limits and prediction log of the scorer."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from stepkit.table.columns import Strict

_NAME = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]*?))\s*(?:,|$)""")
"""One name of a list, with or without quotes, up to the next comma."""


def _parse_names(value: Any) -> Any:
    """Return the names of a list from the command line: a,b,c or, as in YAML, [a, "b", c]; an empty list for null."""
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
    """Return the field of a setting; its meaning appears in config.yaml, --help and docs/reference.md."""
    return Field(default, description=meaning, **limits)


class Serving(Strict):
    """Keys and their defaults, which apply to keys that config.yaml leaves out."""

    model_name: TextOrNull = make_setting(
        "", "registered model; null: the value of register.model_name", pattern=r"^[^/:]*$"
    )
    alias: str = make_setting("champion", "alias to serve; the scorer follows it to each new version", pattern=r"^\w+$")
    shadow_alias: TextOrNull = make_setting(
        "",
        "alias of a model that scores the same rows only for the log (e.g. challenger); null: none",
        pattern=r"^\w*$",
    )
    host: str = make_setting(
        "127.0.0.1",
        "address to listen on; for requests from other machines use 0.0.0.0 and set SCORER_API_KEY",
        min_length=1,
    )
    port: int = make_setting(5000, "port to listen on", ge=1, le=65535)
    workers: PositiveInt = make_setting(1, "number of server processes")
    poll_seconds: PositiveFloat = make_setting(2.0, "seconds between two checks of the registry for a new version")
    slowest_ms: PositiveFloat = make_setting(
        50.0,
        "longest time for one row in milliseconds; a slower version is not served",
    )
    allow_signature_change: bool = make_setting(
        False, "true: also serve a new version whose columns differ from the current one"
    )
    shadow_queue: PositiveInt = make_setting(
        10_000, "rows that may wait for the shadow model; further rows are dropped and counted"
    )
    max_body_mb: PositiveFloat = make_setting(8.0, "largest request body in MB; a larger one gets status 413")
    request_seconds: PositiveFloat = make_setting(
        60.0, "longest time for a request in seconds; a slower one gets status 504"
    )
    stop_seconds: PositiveInt = make_setting(30, "seconds to finish accepted requests after SIGTERM")
    log_url: TextOrNull = make_setting(
        "",
        "prediction log: sqlite:///FILE or postgresql://...; null: PREDICTION_LOG_URL (use it for a URL with "
        "a password), else predictions.db in the repository root",
    )
    keep_days: PositiveInt | None = make_setting(None, "days to keep predictions; null: forever")
    redact: Names = make_setting([], "columns whose values are never written to the log")
    sample_rate: Share = make_setting(1.0, "share of requests that is written to the log; the others are only counted")
    when_unavailable: Literal["refuse", "answer"] = make_setting(
        "refuse",
        "if a prediction cannot be logged: refuse (status 503), or answer and count the loss",
    )

    @property
    def max_body_bytes(self) -> int:
        """Largest request body in bytes."""
        return int(self.max_body_mb * 2**20)
