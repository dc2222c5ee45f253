"""Pure functions of the prediction log: rows, sampling, features as JSON and as columns, settings and URLs."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from prediction_log.engine import open_engine
from prediction_log.errors import FeedbackUnfit, LogUnfit
from prediction_log.labels import parse_labels
from prediction_log.mlflow_recorder import Recorder, read_environment_settings, read_name_and_version
from prediction_log.read import parse_features
from prediction_log.rows import (
    Prediction,
    encode_feature_table,
    encode_features,
    is_in_sample,
    pop_redacted,
    select_sample,
    to_log_rows,
)
from prediction_log.schema import HEAD, KNOWN_VERSIONS, MIGRATIONS
from prediction_log.settings import LogSettings
from prediction_log.writer import PredictionLog
from stepkit.processes import find_free_port

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PREDICTION = Prediction("r-1", 0, NOON, "credit", "3", False, {"AGE": 24.0, "SEX": 2.0, "job": "cook"}, 0.25, 0, 1.5)
TEXTS = st.text(st.characters(), max_size=8)
"""Any text, with control characters and lone surrogates."""


def test_a_row_has_the_values_of_its_prediction_and_its_time_in_utc() -> None:
    tokyo = PREDICTION._replace(time=NOON.astimezone(timezone(timedelta(hours=9))))
    (row,) = to_log_rows([tokyo])
    assert row.time == NOON
    assert row.time.tzinfo is UTC
    assert json.loads(str(row.features)) == PREDICTION.features


def test_redacted_columns_are_null_and_named_and_the_others_unchanged() -> None:
    (row,) = to_log_rows([PREDICTION], frozenset({"AGE", "absent"}))
    features = json.loads(str(row.features))
    assert pop_redacted(features) == {"AGE"}
    assert features == {"AGE": None, "SEX": 2.0, "job": "cook"}
    assert pop_redacted(features) == frozenset()
    assert PREDICTION.features == {"AGE": 24.0, "SEX": 2.0, "job": "cook"}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.nan, None),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ("a\0b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("\U0001f600", "\U0001f600"),
        ("\\u0000", "\\u0000"),
    ],
    ids=["nan", "infinity", "minus infinity", "NUL", "lone surrogate", "surrogate pair", "written out"],
)
def test_values_that_databases_reject_are_replaced(value: float | str, stored: str | None) -> None:
    assert json.loads(encode_features({"a": value, "b": 1.0})) == {"a": stored, "b": 1.0}


def test_the_fast_and_the_exact_encoder_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, float | str | None]] = [{"a": 1e300, "b": "\u00e9\U0001f600"}, {"a": None}, {"a": "null"}, {}]
    fast = [json.loads(encode_features(row)) for row in rows]
    monkeypatch.setattr("prediction_log.rows._dumps", None)
    assert fast == [json.loads(encode_features(row)) for row in rows] == rows


def test_the_names_of_redacted_columns_are_no_column_of_the_table() -> None:
    texts = [encode_features({"a": 1.0, "b": "x"}, frozenset({hidden})) for hidden in ("a", "b", "c")]
    table = parse_features(texts)
    assert table.to_pydict() == {"a": [None, 1.0, 1.0], "b": ["x", None, "x"]}


NUMBERS = st.floats(allow_infinity=False)


@pytest.mark.parametrize("hidden", [(), ("100 %s, \u00e9",)], ids=["all", "one hidden"])
@given(table=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4))
def test_a_table_of_numbers_is_encoded_like_its_rows(table: list[tuple[float, ...]], hidden: tuple[str, ...]) -> None:
    names = ("AGE", "100 %s, \u00e9", 'a "b":')
    rows: list[dict[str, float | str | None]] = [dict(zip(names, map(nan_to_none, row), strict=True)) for row in table]
    texts = encode_feature_table(names, np.array(table), frozenset(hidden))
    assert [json.loads(text) for text in texts or []] == [
        json.loads(encode_features(row, frozenset(hidden))) for row in rows
    ]


def nan_to_none(number: float) -> float | None:
    return None if math.isnan(number) else number


@pytest.mark.parametrize(
    ("name", "table"),
    [("a\0b", [[0.0, 0.0]]), ("\ud800", [[0.0, 0.0]]), ("a", [[1.0, math.inf]]), ("a", [[-math.inf, 1.0]]), ("a", [])],
    ids=["NUL in a name", "lone surrogate in a name", "infinity", "minus infinity", "no rows"],
)
def test_a_table_with_special_values_is_left_to_the_row_encoder(name: str, table: list[list[float]]) -> None:
    assert encode_feature_table((name, "b"), np.array(table)) is None


@given(st.dictionaries(TEXTS, st.none() | st.floats() | TEXTS, max_size=5))
def test_any_features_become_json_that_both_databases_accept(features: dict[str, float | str | None]) -> None:
    text = encode_features(features)
    decoded = json.loads(text, parse_constant=pytest.fail)
    text.encode("utf-8")
    assert not [value for item in decoded.items() for value in item if isinstance(value, str) and "\0" in value]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PREDICTION._replace(request_id=""), "request id: .* expected 1 to 200 printable characters"),
        (PREDICTION._replace(request_id="x" * 201), "request id: wrong"),
        (PREDICTION._replace(request_id="a\0b"), "request id: wrong"),
        (PREDICTION._replace(time=datetime(2026, 1, 1)), "request r-1: time without a time zone"),
        (PREDICTION._replace(probability=math.nan), "request r-1, row 0: wrong probability .found nan"),
        (PREDICTION._replace(probability=1.1), r"found 1\.1, expected 0 to 1"),
    ],
    ids=["no id", "long id", "NUL in id", "no time zone", "nan", "above one"],
)
def test_an_invalid_prediction_is_named_by_its_request(wrong: Prediction, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_log_rows([PREDICTION, wrong])


def test_the_sample_has_the_configured_share_and_is_the_same_everywhere() -> None:
    samples = {rate: {f"r{i}" for i in range(4000) if is_in_sample(f"r{i}", rate)} for rate in (0.0, 0.1, 0.5, 1.0)}
    assert {rate: round(len(ids) / 4000, 1) for rate, ids in samples.items()} == {
        0.0: 0.0,
        0.1: 0.1,
        0.5: 0.5,
        1.0: 1.0,
    }
    assert samples[0.1] < samples[0.5]
    assert not is_in_sample("r1", 0.5)  # fixed, because other machines and versions must agree
    assert is_in_sample("r0", 0.5)


def test_all_rows_of_a_request_are_in_the_sample_or_none() -> None:
    rows = [PREDICTION._replace(request_id=f"r{i}", row=row) for i in range(50) for row in range(3)]
    sample = select_sample(rows, 0.5)
    assert 0 < len(sample) < len(rows)
    assert {row.request_id for row in sample}.isdisjoint({row.request_id for row in rows if row not in sample})


@pytest.mark.parametrize(
    "wrong", [{"sample_rate": 1.5}, {"keep_days": 0}, {"when_unavailable": "wait"}, {"keepdays": 3}], ids=str
)
def test_wrong_settings_are_rejected(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LogSettings.model_validate(wrong)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("predictions.db", "prediction log URL .*: not a database URL. For example sqlite:///"),
        ("mysql://host/db", "found mysql, expected sqlite or postgresql"),
        ("sqlite://", "in memory would be lost"),
        ("sqlite:////not/there/log.db", "prediction log /not/there/log.db: folder does not exist"),
        ("sqlite:////", "not a regular file"),
        ("sqlite:////dev/null", "/dev/null: not a regular file"),
        ("sqlite+pysqlcipher:///log.db", "no driver, host or user"),
        ("sqlite://host/log.db", "no driver, host or user"),
        *((f"sqlite:///log.db?timeout={text}", "found timeout, expected only") for text in ("abc", "-1", "nan", "1e9")),
        ("sqlite:///log.db?timeout=1&timeout=2", "found timeout, expected only"),
        *((f"sqlite:///log.db?{name}=1", f"found {name}, expected only") for name in ("mode", "uri", "cache")),
        *((f"postgresql://h/d?{name}=1", f'connection option "{name}"') for name in ("no_such", "autocommit")),
        ("postgresql://h/d?port=abc", "non-integer port"),
        ("postgresql://h/d?target_session_attrs=read-only", "option target_session_attrs forbids writing"),
        ("postgresql://h/d?options=-c%20default_transaction_read_only%3Don", "option options forbids writing"),
    ],
)  # fmt: skip
def test_an_address_of_no_log_is_refused_in_words(url: str, message: str) -> None:
    with pytest.raises(LogUnfit, match=message):
        open_engine(url)


@pytest.mark.parametrize(
    "options",
    [
        "sslmode=foo",
        "sslmode=allow&sslmode=prefer",
        "connect_timeout=abc",
        "hostaddr=zzz",
        "target_session_attrs=any-one",
        "keepalives=x",
    ],
)
def test_an_option_that_libpq_rejects_is_not_retried(options: str) -> None:
    with pytest.raises(LogUnfit, match="PostgreSQL rejects an option"):
        PredictionLog.open(f"postgresql://svc@127.0.0.1:{find_free_port()}/x?{options}", must_answer=False)


def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    text_file, other_database = tmp_path / "README.md", tmp_path / "other.db"
    text_file.write_text("# Read me\n" * 1_000)
    with closing(sqlite3.connect(other_database)) as connection:
        connection.execute("CREATE TABLE predictions (match TEXT)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    problems = {text_file: "README.md: not an SQLite database", other_database: "table predictions belongs to another"}
    for path, message in problems.items():
        with pytest.raises(LogUnfit, match=message):
            PredictionLog.open(f"sqlite:///{path}", must_answer=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_log_may_share_a_database_with_other_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shared.db")) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    log = PredictionLog.open(f"sqlite:///{tmp_path / 'shared.db'}")
    assert log.submit([PREDICTION]).result(20) is None
    log.close()


def test_a_database_error_does_not_repeat_values(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'log.db'}")
    with pytest.raises(SQLAlchemyError) as error, engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO nothing VALUES (?)", ("4711",))
    assert "4711" not in str(error.value)
    engine.dispose()


def test_the_known_schema_versions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == HEAD
    assert {script.revision for script in scripts.walk_revisions()} == set(KNOWN_VERSIONS)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (['{"a":1}', '{"a":2.5}', '{"b":3}'], {"a": [1.0, 2.5, None], "b": [None, None, 3.0]}),
        (['{"a":"2020-01-01"}', '{"a":null}'], {"a": ["2020-01-01", None]}),
        (['{"a":"Infinity"}', '{"a":null}'], {"a": [math.inf, None]}),
        (['{"a":"Infinity"}', '{"a":-1}'], {"a": [math.inf, -1.0]}),
        (['{"a":"x"}', '{"a":1.5}'], {"a": ["x", "1.5"]}),
        (["{}", "{}"], {}),
    ],
    ids=["gaps", "like a time", "infinity", "infinity and numbers", "mixed", "none"],
)
def test_features_become_columns(texts: list[str], expected: dict[str, list[object]]) -> None:
    assert parse_features(tuple(texts)).to_pydict() == expected


def test_labels_are_parsed_and_wrong_lines_named() -> None:
    problems: list[str] = []
    text = "row,request_id,label\n0,a,1\n1,a,0.0\n,b,1\n0,,1\n0,c,yes\n-1,d,1\n2,e,\n"
    assert list(parse_labels(StringIO(text), problems)) == [("a", 0, 1), ("a", 1, 0)]
    assert problems == [
        "line 4: wrong row (found '', expected a whole number from 0)",
        "line 5: request_id is empty",
        "line 6: wrong label (found 'yes', expected 0 or 1)",
        "line 7: wrong row (found '-1', expected a whole number from 0)",
        "line 8: wrong label (found '', expected 0 or 1)",
    ]
    assert list(parse_labels(StringIO("request_id,label\na,1\n"), [])) == [("a", 0, 1)]


@pytest.mark.parametrize(
    ("text", "missing"), [("", "request_id"), ("id,label\na,1\n", "request_id"), ("request_id\na\n", "label")]
)
def test_a_table_without_the_columns_is_rejected(text: str, missing: str) -> None:
    with pytest.raises(FeedbackUnfit, match=rf"no column {missing}.* \(found .*; expected request_id, label"):
        list(parse_labels(StringIO(text), []))


def test_a_model_is_named_by_the_registry_or_by_itself(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("model_id: m-1\nrun_id: r\n")
    assert read_name_and_version(tmp_path) == (tmp_path.name, "m-1")
    (tmp_path / "registered_model_meta").write_text("model_name: credit_default\nmodel_version: '7'\n")
    assert read_name_and_version(tmp_path) == ("credit_default", "7")


def test_settings_in_the_environment_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTION_LOG_SETTINGS", "")
    assert read_environment_settings() == LogSettings()
    monkeypatch.setenv("PREDICTION_LOG_SETTINGS", '{"redacted": ["AGE"]}')
    with pytest.raises(LogUnfit, match="PREDICTION_LOG_SETTINGS: redacted: Extra inputs"):
        read_environment_settings()


def test_a_stock_server_fails_if_redact_names_a_column_that_the_model_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREDICTION_LOG_URL", f"sqlite:///{tmp_path / 'log.db'}")
    monkeypatch.setenv("PREDICTION_LOG_SETTINGS", '{"redact": ["AEG"]}')
    (tmp_path / "MLmodel").write_text("model_id: m-1\n")
    recorder = Recorder(tmp_path)
    with pytest.raises(MlflowException, match=r"redact: the model has no column AEG\. Its columns: AGE\."):
        recorder.record(pd.DataFrame({"AGE": [24.0]}), [0.25], [0], 0.0)
    assert recorder.log.get_stats().committed == 0
    recorder.log.close()
