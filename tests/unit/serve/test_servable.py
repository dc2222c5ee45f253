"""Parts of the scorer that need no server: settings, ids, metrics, feedback bodies, the OpenAPI document."""

from __future__ import annotations

import asyncio
import math
import re
import shlex
import socket
import time
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from prediction_log.rows import Prediction
from serve.errors import AddressUnusable
from serve.http import metrics
from serve.http.app import Scorer
from serve.http.feedback import parse_label
from serve.http.middleware import Guard, make_request_id, parse_request_id
from serve.http.pages import openapi
from serve.http.refusals import Refusal, make_refusal
from serve.http.request_context import parse_media_type
from serve.run import format_welcome, main, verify_port_is_free
from serve.settings import ServeSettings, load_settings, read_api_key
from stepkit.errors import BadParameter
from stepkit.settings.drift import Monitoring
from stepkit.settings.load import resolve_settings


def write_config(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text)
    return file


def test_what_is_typed_wins_over_config_yaml_and_what_is_left_empty_does_not(tmp_path: Path) -> None:
    file = write_config(
        tmp_path, "serve: {port: 6000, workers: 3, keep_days: 30, redact: [AGE], shadow_alias: candidate}"
    )
    typed = {"port": "", "workers": "2", "keep_days": "none", "redact": "", "max_body_mb": "0.5"}
    settings = load_settings(typed, file)
    assert (settings.port, settings.workers, settings.max_body_bytes) == (6000, 2, 2**19)
    assert (settings.log.keep_days, settings.log.redact, settings.shadow_alias) == (None, ["AGE"], "candidate")
    nothing = load_settings({"redact": "none", "shadow_alias": "none"}, file)
    assert (nothing.log.redact, nothing.shadow_alias) == ([], "")


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("AGE,SEX", ["AGE", "SEX"]),
        ("[AGE,SEX]", ["AGE", "SEX"]),
        (" [ AGE , 'SEX' , \"PAY 0\" ] ", ["AGE", "SEX", "PAY 0"]),
        ('["a,b", it\'s]', ["a,b", "it's"]),
        ("[]", []),
        ("AGE, ,", ["AGE"]),
        ("[NO, 1E5]", ["NO", "1E5"]),
    ],
)
def test_a_list_is_read_as_it_is_typed_or_as_yaml_writes_it(typed: str, names: list[str], tmp_path: Path) -> None:
    assert load_settings({"redact": typed}, write_config(tmp_path, "")).redact == names
    signals = {"alert_signals": "[missing, 'clock']"}
    assert resolve_settings(Monitoring, "drift", signals, write_config(tmp_path, "")).alert_signals == [
        "missing",
        "clock",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("register: {model_name: mine}\nserve: {model_name: null}", "mine"),
        ("register: {model_name: mine}\nserve: {model_name: other}", "other"),
        ("register: {model_name: mine}", "mine"),
        ("main: {}", "credit_default"),
        ("serve:", "credit_default"),
        ("", "credit_default"),
    ],
)
def test_the_model_is_the_one_that_register_writes_unless_another_is_named(
    text: str, name: str, tmp_path: Path
) -> None:
    assert load_settings({}, write_config(tmp_path, text)) == ServeSettings(model_name=name)
    assert load_settings({}, tmp_path / "missing.yaml").model_name == "credit_default"


@pytest.mark.parametrize(("key", "value"), [("port", "x"), ("sample_rate", "2"), ("workers", "0"), ("more", "1")])
def test_a_wrong_setting_is_named_with_the_place_where_it_stands(key: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=f"^-P {key}: "):
        load_settings({key: value})
    with pytest.raises(BadParameter, match=rf"^config\.yaml: serve\.{key}: ") as caught:
        load_settings({}, write_config(tmp_path, f"serve: {{{key}: {value}}}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serve: [1]", "config.yaml: serve: not a mapping of keys to values"),
        ("- 1", "config.yaml: not a mapping"),
        ("serve: {", "config.yaml: not YAML"),
    ],
)
def test_a_config_yaml_of_another_shape_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=rf"^{message}.*$"):
        load_settings({}, write_config(tmp_path, text))


def test_a_mistyped_flag_ends_with_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--port", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("key", ["hush\n", " hush", "hush\r\n", "hu\tsh", "\udcffhush", " "], ids=repr)
def test_a_key_that_no_client_can_send_ends_the_start(
    key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORER_API_KEY", key)
    with pytest.raises(SystemExit) as ended:
        main([])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.err.startswith("BadParameter: SCORER_API_KEY: ")
    assert printed.err.count("\n") == 1
    assert "hush" not in printed.err + printed.out


@pytest.mark.parametrize("key", ["", "hush", "two words", "schl\u00fcssel"])
def test_any_other_key_is_taken(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_API_KEY", key)
    assert read_api_key() == key


@pytest.mark.parametrize("parameter", ["", ";", "; charset=utf8", ' ; Charset="UTF-8"'])
@pytest.mark.parametrize("kind", ["application/json", " APPLICATION/Json"])
def test_the_spelling_of_a_media_type_changes_nothing(kind: str, parameter: str) -> None:
    assert parse_media_type(kind + parameter, ["text/csv", "application/json"]) == "application/json"


@pytest.mark.parametrize("header", [None, "", "text/plain", "application/json; charset=latin-1", "text/csv; v=1"])
def test_another_media_type_is_refused_by_name(header: str | None) -> None:
    with pytest.raises(Refusal, match="expected text/csv or application/json") as caught:
        parse_media_type(header, ["text/csv", "application/json"])
    assert (caught.value.status, caught.value.field) == (415, "Content-Type")


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AddressUnusable, match=rf"^port {port} on 127\.0\.0\.1: .* -P port=5001"):
            verify_port_is_free("127.0.0.1", port)
    verify_port_is_free("127.0.0.1", port)


def test_new_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [UUID(make_request_id()) for _ in range(100)]
    after = time.time_ns() // 1_000_000
    assert {request_id.version for request_id in ids} == {7}
    assert len(set(ids)) == 100
    assert all(before <= request_id.int >> 80 <= after for request_id in ids)


@pytest.mark.parametrize("valid", ["a", "-a", "order 4711", "0b1f:2.x_y", "x" * 200])
def test_only_a_well_formed_id_is_kept(valid: str) -> None:
    assert parse_request_id(valid) == valid
    for invalid in ("", f"{valid}é", f"{valid}\n", f"{valid}\0", valid.ljust(201, "x")):
        assert parse_request_id(invalid) == ""


def test_a_client_that_may_try_again_is_told_when() -> None:
    async def busy(*_: object) -> Any:
        raise make_refusal("OVERLOADED")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [], "path": "/ping", "method": "GET"}
    asyncio.run(Guard(busy, ServeSettings(), "", lambda: None)(scope, busy, send))
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"]) == (503, b"1")


def test_many_scores_are_counted_as_one_by_one() -> None:
    values = [0.0, 0.05, 0.1, 0.10001, 0.5, 0.99, 1.0, 1.0000001] * 10
    metrics.observe_scores("many", values)
    for value in values:
        metrics.observe_scores("single", [value])
    printed = metrics.format_metrics().decode().splitlines()
    lines = [line for line in printed if "_sum" not in line]
    bulk, single = ([line for line in lines if f'version="{name}"' in line] for name in ("many", "single"))
    assert [line.replace("many", "single") for line in bulk] == single != []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"request_id": "a", "label": 2}', "label"),
        (b'{"request_id": "a", "label": true}', "label"),
        (b'{"request_id": "a", "label": 1, "row": 1.5}', "row"),
        (b'{"label": 1}', "request_id"),
        (b'{"request_id": "a", "label": 1, "more": 1}', "more"),
        (b'{"request_id": "a", "label": 1, "": 1}', "body"),
        (b"[]", "body"),
        (b"{", "body"),
    ],
)
def test_feedback_that_does_not_fit_names_its_field(body: bytes, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_label(body)
    assert (caught.value.status, caught.value.field) == (400, field)


def test_a_whole_number_may_be_written_with_a_fraction_as_in_json_schema() -> None:
    label = parse_label(b'{"request_id": "a", "label": 1.0, "row": 3.0}')
    assert (label.label, label.row) == (1, 3)


def test_the_docs_can_be_shown_before_there_is_a_model() -> None:
    assert "No model yet" in openapi.render_page(None)
    assert openapi.build_document(None)["paths"]["/invocations"]["post"]["requestBody"]["required"]


RISING = pd.DataFrame({name: [1.0, 2.0, 3.0, 4.0, 5.0] for name in ("AGE", "LIMIT_BAL", "BILL_AMT1")})


@pytest.mark.parametrize("clients", [RISING, RISING[["AGE"]], RISING.head(1)], ids=["rising", "one column", "one row"])
def test_the_example_of_the_docs_is_no_client_even_where_columns_rise_together(clients: pd.DataFrame) -> None:
    model: Any = SimpleNamespace(example=clients, names=tuple(clients))
    shown = openapi.build_example_request(model)["dataframe_split"]
    assert shown["columns"] == list(clients)
    assert [row for row in shown["data"] if row in clients.to_numpy().tolist()] == []
    assert (shown["data"] == [[None] * len(clients.columns)] * 2) == (clients is not RISING)


@pytest.mark.parametrize("policy", ["refuse", "answer"])
def test_an_answer_with_values_that_the_log_cannot_hold_is_refused_or_counted(policy: str, tmp_path: Path) -> None:
    log_url = f"sqlite:///{tmp_path / 'log.db'}"
    scorer = Scorer(ServeSettings(model_name="m", log_url=log_url, when_unavailable=policy))  # type: ignore[arg-type]  # one of its two
    beyond = Prediction("r", 0, datetime.now(UTC), "m", "1", False, {"AGE": 24.0}, math.nan, 0, 1.0)
    before = metrics.unrecorded._value.get()
    refused = pytest.raises(Refusal, match="prediction cannot be stored: request r")
    with refused if policy == "refuse" else nullcontext() as caught:
        asyncio.run(scorer._record([beyond], is_new_id=True))
    assert caught is None or (caught.value.status, caught.value.code) == (400, "NOT_RECORDABLE")
    assert metrics.unrecorded._value.get() - before == (policy == "answer")
    assert scorer.log_trouble == ""
    scorer.log.close()


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:5001"), ("0.0.0.0", "http://127.0.0.1:5001"), ("::1", "http://[::1]:5001")],
)
def test_a_scorer_begins_with_what_a_person_wants_to_know(host: str, url: str) -> None:
    settings = ServeSettings(host=host, port=5001, model_name="Bob's loans")
    text = format_welcome(settings, with_key=False)
    assert all(part in text for part in (f"{url}/docs", f"{url}/try\n", f"curl {url}/invocations", "Ctrl-C"))
    (download,) = re.findall(r"try +(mlflow artifacts .*)", text)
    assert "models:/Bob's loans@champion/serving_input_example.json" in shlex.split(download)
    assert "Authorization" not in text
    assert '-H "Authorization: Bearer $SCORER_API_KEY"' in format_welcome(settings, with_key=True)
