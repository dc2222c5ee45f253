"""Commands that the user can paste: values quoted for Hydra, options quoted for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.:@-]*")
_WORDS_OF_OTHER_TYPES = ("null", "true", "false", "inf", "nan")


def quote_for_hydra(text: str) -> str:
    """Return a value for Hydra's command line that Hydra and OmegaConf parse back to exactly `text`."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_OTHER_TYPES and not text.endswith(":"):
        return text
    # OmegaConf removes one backslash before ${ and Hydra removes one before a quote; both read \\ there as \
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(r"(\\*)('|$(?![\s\S]))", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), escaped)
    return f"'{escaped}'"


def quote_options(words: Iterable[str]) -> str:
    """Return words as one shell word for `hydra_options` or make's `options`, which split it into words again."""
    words = list(words)
    if any(re.search(r'["$`\\!\n]', word) for word in words):
        return shlex.quote(shlex.join(words))
    escaped = [re.sub(r"([ \t'])", r"\\\1", word) for word in words]
    return f'"{" ".join(escaped)}"'


def format_pipeline_command(overrides: Mapping[str, str | None]) -> str:
    """Return the command that runs the pipeline with these config keys; None becomes null."""
    words = [f"{key}={'null' if text is None else quote_for_hydra(text)}" for key, text in overrides.items()]
    return f"mlflow run . --env-manager local -P hydra_options={quote_options(words)}"
