"""The page /try, a form for people: the page itself, which holds no data of the model, and the data of its form."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from serve.model.servable import Servable
from stepkit.model.reasons import to_plain_value
from stepkit.table.columns import Column

PAGE = Path(__file__).with_name("try.html").read_text(encoding="utf-8")
LISTED = 4
"""Number of reasons that the page lists at once. It asks for all, so that the other columns can be shown too."""

VERDICTS = ("Approved", "Refused")
"""Words for class 0 and class 1."""

EARLIER_RELEASE = "An earlier release trained this version, without a reference row. Train again to get reasons."


def make_headers(page: str) -> dict[str, str]:
    """Return the headers of the page: it may run only its own script and connect only to the scorer."""
    sources = {
        tag: " ".join(f"'sha256-{_compute_digest(text)}'" for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S))
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def _compute_digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


HEADERS = make_headers(PAGE)


def build_form(model: Servable) -> dict[str, Any]:
    """Return the data of the form: the version, its threshold and classes, and a field for each input column.

    A version of an earlier release has no description and no reference row: its fields have a name and nothing else.
    """
    described = model.description
    class_names = described.class_names if described else ("0", "1")
    target = described.target if described else "class"
    reference = model.reasons["reference"] if model.reasons else {}
    columns = described.columns if described else {}
    return {
        "model": model.name,
        "version": model.version,
        "threshold": model.threshold,
        "classes": [
            {"verdict": verdict, "meaning": f"{target}: {name}"}
            for verdict, name in zip(VERDICTS, class_names, strict=True)
        ],
        "reasons": len(model.names) if model.reasons else 0,
        "listed": LISTED,
        "no_reasons": "" if model.reasons else EARLIER_RELEASE,
        "has_reference": bool(model.reasons),
        "never_reasons": [
            _get_label(columns.get(name), name) for name in (model.reasons["not_offered"] if model.reasons else ())
        ],
        "columns": [
            _build_field(name, name in model.text, columns.get(name), to_plain_value(reference.get(name)))
            for name in model.names
        ],
    }


def _build_field(name: str, is_text: bool, column: Column | None, reference: Any) -> dict[str, Any]:
    """Return a field; a column with codes has `choices`, a number may have a range, and None means missing."""
    field = {"name": name, "label": _get_label(column, name), "text": is_text, "reference": reference}
    if column is None:
        return field
    choices = [{"value": code, "label": _format_code(column, code)} for code in column.values or ()]
    if choices and reference is not None and reference not in (column.values or ()):
        choices.append({"value": reference, "label": str(reference)})
    limits = {key: to_plain_value(limit) for key, limit in (("min", column.min), ("max", column.max))}
    # The meaning repeats the display names of codes; without those, it may repeat the label.
    is_repeated = bool(column.labels) or column.meaning.casefold() == column.label.casefold()
    meaning = "" if is_repeated else column.meaning
    return {**field, "meaning": meaning, **limits, "choices": choices}


def _get_label(column: Column | None, name: str) -> str:
    return (column.label if column else "") or name


def _format_code(column: Column, code: float | str) -> str:
    """Return a code with its display name, such as "1: male"; just the code if it has none."""
    label = column.get_label(str(code))
    return label if label == str(code) else f"{code}: {label}"
