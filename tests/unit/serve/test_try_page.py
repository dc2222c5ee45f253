"""Data of the form on /try, and the headers of that page."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from serve.http.pages import try_page
from serve.http.pages.try_page import HEADERS, PAGE, build_form, make_headers
from stepkit.table.columns import Columns

HOSTILE = "<script>alert('x')</script> \"quoted\" & more"
COLUMNS = Columns.model_validate(
    {
        "source_target": "end",
        "target": "lost",
        "negative": "paid",
        "positive": ["charged off", "late"],
        "columns": {
            "AGE": {"min": 18, "max": 120, "label": "Age", "meaning": "in years"},
            "DEBT": {"type": "float", "min": 0.5, "label": "Debt", "meaning": "debt"},
            "SEX": {
                "role": "categorical", "values": [1, 2, 9], "labels": {1: "male", 2: HOSTILE}, "meaning": "1 male",
                "protected": True,
            },
            "HOME": {"type": "text", "role": "categorical", "values": ["own", "rent"], "label": HOSTILE},
            "UNUSED": {},
        },
    }
)  # fmt: skip
REFERENCE = {"AGE": 34.0, "DEBT": None, "SEX": 2.0, "HOME": "other"}


def make_model(**changes: Any) -> Any:
    values = {
        "name": "loans",
        "version": "3",
        "threshold": 0.4,
        "names": ("HOME", "AGE", "DEBT", "SEX"),
        "text": ("HOME",),
        "description": COLUMNS,
        "reasons": {"reference": REFERENCE, "not_offered": ["SEX"]},
        **changes,
    }
    return SimpleNamespace(**values)


def build_fields(**changes: Any) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in build_form(make_model(**changes))["columns"]}


def test_the_form_has_the_inputs_of_the_model_in_its_order() -> None:
    assert list(build_fields()) == ["HOME", "AGE", "DEBT", "SEX"]


def test_a_number_has_its_range_and_a_whole_reference_value_no_fraction() -> None:
    fields = build_fields()
    age, debt = fields["AGE"], fields["DEBT"]
    assert (age["label"], age["meaning"], age["min"], age["max"], age["choices"]) == ("Age", "in years", 18, 120, [])
    assert json.dumps([age["reference"], age["min"]]) == "[34, 18]"
    assert (debt["label"], debt["min"], debt["max"], debt["reference"]) == ("Debt", 0.5, None, None)
    assert debt["meaning"] == "", "repeats the label"


def test_codes_are_choices_with_their_display_names_and_without_a_meaning_that_repeats_them() -> None:
    sex = build_fields()["SEX"]
    assert sex["choices"] == [
        {"value": 1, "label": "1: male"},
        {"value": 2, "label": f"2: {HOSTILE}"},
        {"value": 9, "label": "9"},
    ]
    assert (sex["reference"], sex["meaning"]) == (2, "")


def test_a_reference_value_that_the_description_does_not_list_can_be_chosen() -> None:
    home = build_fields()["HOME"]
    assert (home["text"], home["reference"]) == (True, "other")
    assert [choice["value"] for choice in home["choices"]] == ["own", "rent", "other"]


def test_labels_stay_text_because_the_page_never_reads_them_as_markup() -> None:
    """The page is the same for each model, and its script creates no element from text."""
    assert build_fields()["HOME"]["label"] == HOSTILE
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", PAGE)


def test_the_form_names_the_threshold_the_classes_and_the_columns_that_are_never_reasons() -> None:
    form = build_form(make_model())
    assert (form["model"], form["version"], form["threshold"]) == ("loans", "3", 0.4)
    assert form["classes"] == [
        {"verdict": "Approved", "meaning": "lost: paid"},
        {"verdict": "Refused", "meaning": "lost: charged off or late"},
    ]
    assert (form["reasons"], form["listed"], form["no_reasons"], form["never_reasons"]) == (4, 4, "", ["SEX"])
    assert orjson.loads(orjson.dumps(form)) == form


def test_a_version_of_an_earlier_release_has_the_names_of_its_columns_and_says_why_it_has_no_reasons() -> None:
    form = build_form(make_model(description=None, reasons=None))
    assert [field["label"] for field in form["columns"]] == ["HOME", "AGE", "DEBT", "SEX"]
    assert [field["reference"] for field in form["columns"]] == [None] * 4
    assert (form["reasons"], form["has_reference"], form["never_reasons"]) == (0, False, [])
    assert "earlier release" in form["no_reasons"]
    assert [entry["meaning"] for entry in form["classes"]] == ["class: 0", "class: 1"]


def test_the_browser_runs_only_the_script_of_the_page_and_loads_nothing_from_elsewhere() -> None:
    policy = dict(rule.strip().split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["style-src"])
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert not re.findall(r"https?:|\bsrc=|@import|url\(|\son\w+=|\sstyle=", PAGE)


def test_a_changed_script_has_another_digest() -> None:
    pages = [f"<style>a</style><script>{script}</script>" for script in ("1", "2")]
    assert make_headers(pages[0]) != make_headers(pages[1])


@pytest.mark.parametrize("store", ["localStorage", "sessionStorage", "document.cookie", "location", "history"])
def test_the_page_keeps_no_key_outside_its_memory(store: str) -> None:
    assert store not in try_page.PAGE
