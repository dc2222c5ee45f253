"""The parts of the scorer that need no server: settings, ids, metrics, feedback bodies, the OpenAPI document."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from serve import metrics, openapi
from serve.errors import Refusal
from serve.feedback import label_from
from serve.guard import id_from, new_id
from serve.run import main, parser
from serve.settings import settings_from
from stepkit.errors import BadParameter
from tests.contract.repo import project


def test_the_flags_are_the_parameters_of_the_project_with_the_same_defaults() -> None:
    flags = {action.dest: action.default for action in parser()._actions if action.dest != "help"}
    assert flags == project("serve").defaults


def test_what_is_typed_becomes_settings() -> None:
    settings = settings_from({"workers": "2", "keep_days": "", "redact": "AGE,SEX", "max_body_mb": "0.5"})
    assert (settings.workers, settings.max_body_bytes) == (2, 2**19)
    assert (settings.log.keep_days, settings.log.redact) == (None, ["AGE", "SEX"])


@pytest.mark.parametrize(("key", "value"), [("port", "x"), ("sample_rate", "2"), ("workers", "0"), ("more", "1")])
def test_a_wrong_setting_is_named(key: str, value: str) -> None:
    with pytest.raises(BadParameter, match=f"scorer setting {key}: "):
        settings_from({key: value})


def test_a_mistyped_flag_ends_with_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--port", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_new_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    before = time.time_ns() // 1_000_000
    made = [UUID(new_id()) for _ in range(100)]
    after = time.time_ns() // 1_000_000
    assert {one.version for one in made} == {7}
    assert len(set(made)) == 100
    assert all(before <= one.int >> 80 <= after for one in made)


@pytest.mark.parametrize("given", ["a", "order-4711", "0b1f:2.x_y", "x" * 128])
def test_a_well_formed_id_is_kept(given: str) -> None:
    assert id_from(given) == given


@pytest.mark.parametrize("given", [None, "", "a b", "-a", "é", "a\n", "x" * 129])
def test_any_other_id_is_replaced(given: str | None) -> None:
    assert UUID(id_from(given)).version == 7


def test_many_scores_are_counted_as_one_by_one() -> None:
    values = [0.0, 0.05, 0.1, 0.10001, 0.5, 0.99, 1.0, 1.0000001] * 10
    metrics.observe_scores("many", values)
    for value in values:
        metrics.observe_scores("single", [value])
    shown = metrics.exposition().decode().splitlines()
    many, single = ([line for line in shown if f'version="{name}"' in line] for name in ("many", "single"))
    assert [line.replace("many", "single").split() for line in many if "_sum" not in line] == [
        line.split() for line in single if "_sum" not in line
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"request_id": "a", "label": 2}', "label"),
        (b'{"request_id": "a", "label": true}', "label"),
        (b'{"request_id": "a", "label": 1, "row": 1.5}', "row"),
        (b'{"label": 1}', "request_id"),
        (b'{"request_id": "a", "label": 1, "more": 1}', "more"),
        (b"[]", "body"),
        (b"{", "body"),
    ],
)
def test_feedback_that_does_not_fit_names_its_field(body: bytes, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        label_from(body)
    assert (caught.value.status, caught.value.field) == (400, field)


def test_the_docs_can_be_shown_before_there_is_a_model() -> None:
    assert "no model yet" in openapi.page(None)
    assert openapi.document(None)["paths"]["/invocations"]["post"]["requestBody"]["required"]
