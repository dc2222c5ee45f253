"""A URL with a secret is detected, rejected as a parameter, and printed without the secret."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download.run import make_parser
from pipeline.config import ConfigError, parse_config
from serve.run import main as start_scorer
from stepkit.errors import BadParameter, SecretInAddress
from stepkit.secret_urls import (
    has_secret,
    hide_secrets,
    hide_secrets_in_text,
    resolve_url,
    to_recorded_url,
    verify_no_secret,
)
from tests.support.small_data import compose_config

SECRET = "Hush0815"
SIGNED = f"https://bucket.s3.amazonaws.com/clients.csv?X-Amz-Date=1&X-Amz-Signature={SECRET}"
HOLDING = [
    f"https://me:{SECRET}@example.org/clients.csv",
    f"s3://AKIA:{SECRET}@bucket/clients.csv",
    f"postgresql+psycopg://me:{SECRET}@db:5432/mlflow",
    f"postgresql://db/mlflow?user=me&password={SECRET}",
    SIGNED,
    f"https://a.blob.core.windows.net/c/clients.csv?sv=2026&sig={SECRET}",
    f"https://storage.googleapis.com/b/clients.csv?X-Goog-Credential={SECRET}",
    f"https://example.org/clients.csv?access_token={SECRET}",
    f"https://example.org/clients.csv?api_key={SECRET}",
    f"HTTPS://me:{SECRET}@example.org/clients.csv",
    f"https://{SECRET}@example.org/clients.csv",
    f"postgresql://me@db/log?sslpassword={SECRET}",
    f"postgresql://me@db/log?a=1&sslkey={SECRET}",
    f"postgresql://me@db/log?%70assword={SECRET}",
    f"http://me:12/34{SECRET}@db/log",
    f"http://me:a?{SECRET}@db/log",
    f"http://me:a#{SECRET}@db/log",
    f"http://me:a@{SECRET}@db/log",
    f"http://me@tenant:{SECRET}@db/log",
    f"postgresql:me:{SECRET}@db/log",
    f"simplecache::s3://AKIA:{SECRET}@bucket/clients.csv",
    f"zip://clients.csv::https://me:{SECRET}@example.org/clients.zip",
    f"https://example.org/?next=https%3A%2F%2Fme%3A{SECRET}%40example.org",
    f"jdbc:postgresql://db/log;password={SECRET}",
    f"postgresql://me:{SECRET}",
]
PLAIN = [
    "https://archive.ics.uci.edu/static/public/350/clients.zip",
    "https://example.org/clients.csv?version=3&page=2&monkey=1",
    "s3://bucket/clients.csv",
    "data/sample.csv.gz",
    "sqlite:///predictions.db",
    "postgresql://tester@127.0.0.1:5432/log",
    "env:DATA_URL",
    "",
    "http://127.0.0.1:5000/a@b:c.csv",
    "http://[::1]:5000/clients.csv",
    "https://example.org/@scope/clients.csv",
    "https://example.org/clients.csv?from=http://example.com/x",
    "https://example.org/clients.csv?mail=a@example.org",
    "C:\\Users\\me@home:x\\clients.csv",
    "file:///C:/me@home/clients.csv",
    "sqlite:////home/me@work:x/mlflow.db",
    "runs:/1f/clients.csv@x",
    "models:/credit_default@champion",
    "log:?from=2026-11-01T00:00Z&to=2026-11-02T00:00Z",
]


@pytest.mark.parametrize("url", HOLDING)
def test_a_url_with_a_secret_is_rejected_and_printed_without_it(url: str) -> None:
    assert has_secret(url)
    with pytest.raises(SecretInAddress, match="holds a password, a key or a signature") as refused:
        verify_no_secret(url, "file_url", "Do otherwise.")
    for text in (str(refused.value), hide_secrets(url), hide_secrets_in_text(f"cannot reach {url}, sorry: '{url}'")):
        assert SECRET not in text
    assert hide_secrets(url).startswith(url.partition(":")[0])


@pytest.mark.parametrize("url", PLAIN)
def test_a_url_without_a_secret_is_unchanged(url: str) -> None:
    assert not has_secret(url)
    assert verify_no_secret(url, "file_url", "") == url


def test_a_url_without_its_secret_still_names_host_and_path() -> None:
    assert hide_secrets(SIGNED) == "https://bucket.s3.amazonaws.com/clients.csv"
    assert hide_secrets("https://me@example.org/a?version=3") == "https://example.org/a?version=3"
    assert hide_secrets_in_text("['http://a:S@h/x', 'http://b:T@h2/y']") == "['http://h/x', 'http://h2/y']"


START, END = "Xq1Z", "Zq2X"
ANY = st.text(
    st.sampled_from("/#?@%:&=;+ '\"<>\\,.[]{}|ab1") | st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=5
)
PASSWORDS = st.builds(lambda before, within, after: f"{before}{START}{within}{END}{after}", ANY, ANY, ANY)
SCHEMES = st.sampled_from(["http", "HTTPS", "s3", "postgresql+psycopg", "mysql", "json", "redis", "simplecache::s3"])
USERS = st.sampled_from(["svc", "a.b", "me@tenant", "", "AKIA123"])
LIKE_A_PORT = re.compile(r"\d{1,5}([/?#\s]|[,.;:)\]}>])")
"""How a password begins that cannot be told from a port in the middle of a text."""


def is_leaking(text: str) -> bool:
    return START in text or END in text


def make_texts(address: str) -> list[str]:
    """Return texts that contain a URL in the forms of libraries, lists and logs."""
    encoded = quote(address, safe="")
    texts = [address, f"cannot reach {address}, sorry", f"url={address} is bad\nnext line", f"({address})"]
    return [*texts, repr(address), repr([address, address]), json.dumps({"a": address}), f"GET /?next={encoded} failed"]


@settings(max_examples=60, deadline=None)
@given(SCHEMES, USERS, PASSWORDS)
def test_no_password_survives_in_any_form_of_an_address(scheme: str, user: str, password: str) -> None:
    address = f"{scheme}://{user}:{password}@127.0.0.1:9/x"
    assert has_secret(address)
    assert not is_leaking(hide_secrets(address))
    for text in make_texts(address):
        assert not is_leaking(hide_secrets_in_text(text, address)), text
        assert LIKE_A_PORT.match(password) or not is_leaking(hide_secrets_in_text(text)), text


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["password", "sslpassword", "X-Amz-Signature", "sig", "access_token", "sslkey"]), PASSWORDS)
def test_no_secret_parameter_survives(name: str, value: str) -> None:
    for written in (value, quote(value, safe="")):
        address = f"postgresql://svc@127.0.0.1:9/x?a=1&{name}={written}"
        assert has_secret(address)
        assert not is_leaking(hide_secrets(address))
        cut = f"Max retries exceeded with url: /x?a=1&{name}={written} (Caused by X)"
        for text in (address, f"cannot reach {address}, sorry", repr([address]), cut):
            assert not is_leaking(hide_secrets_in_text(text, address)), text
            assert written == value or not is_leaking(hide_secrets_in_text(text)), text


def test_secrets_of_the_environment_are_found_however_a_library_repeats_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTION_LOG_URL", f"postgresql://svc:SEC/{SECRET}@127.0.0.1:9/x")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRET}proxy@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"{SECRET}-mlflow")
    for text in (f"invalid port 'SEC/{SECRET}'", f"password {SECRET}proxy refused", f"{{'auth': '{SECRET}-mlflow'}}"):
        assert SECRET not in hide_secrets_in_text(text)
    monkeypatch.setenv("PWD", "/folder/checkout")
    assert hide_secrets_in_text("in /folder/checkout/config.yaml") == "in /folder/checkout/config.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "the server http://mlflow:5000 has no models:/credit_default@champion.",
        "http://mlflow:5000: refused (see http://mlflow:5000/docs, mail a@example.org)",
        "2026-11-30T10:00:00 a@b",
        "no prediction log. For example postgresql://user:password@host/database.",
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert hide_secrets_in_text(text) == text


def test_a_variable_stands_for_its_address_and_no_query_is_kept_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_URL", SIGNED)
    assert resolve_url("env:DATA_URL") == SIGNED
    assert to_recorded_url("env:DATA_URL") == "https://bucket.s3.amazonaws.com/clients.csv"
    assert resolve_url("data/sample.csv.gz") == to_recorded_url("data/sample.csv.gz") == "data/sample.csv.gz"
    monkeypatch.setenv("DATA_URL", f"https://example.org/clients.csv?whatever={SECRET}")
    assert to_recorded_url("env:DATA_URL") == "https://example.org/clients.csv"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_URL", raising=False)
    with pytest.raises(BadParameter, match="variable DATA_URL is not set"):
        resolve_url("env:DATA_URL")
    with pytest.raises(BadParameter, match="names no environment variable"):
        resolve_url("env:DATA URL")


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("data.file_url", SIGNED, "file_url=env:DATA_URL"),
        ("main.mlflow_tracking_url", HOLDING[0], "MLFLOW_TRACKING_PASSWORD"),
        ("data.reference_dataset", HOLDING[1], "Name an artifact"),
        ("serve.log_url", HOLDING[2], "PREDICTION_LOG_URL"),
        ("drift.log_url", HOLDING[2], "PREDICTION_LOG_URL"),
        ("drift.current", HOLDING[2], "drift.current=env:DATA_URL"),
    ],
)
def test_the_configuration_refuses_a_secret_without_repeating_it(key: str, value: str, instead: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(compose_config(f"{key}='{value}'"))
    assert key in str(refused.value)
    assert instead in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_lone_step_refuses_it_before_its_run_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(["--step", "download_data", "--artifact_name", "raw.csv", "--file_url", SIGNED])
    output = capsys.readouterr().err
    assert ended.value.code == 2
    assert "argument --file_url: file_url holds a password, a key or a signature" in output
    assert SECRET not in output


@pytest.mark.parametrize(
    "url", [HOLDING[2], *(candidate for candidate in HOLDING if candidate.startswith("postgresql://me@db/log"))]
)
def test_the_scorer_refuses_it(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREDICTION_LOG_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        start_scorer(["--log_url", url])
    output: Any = capsys.readouterr()
    assert ended.value.code == 2
    assert "Set PREDICTION_LOG_URL instead" in output.err
    assert SECRET not in output.out + output.err


def test_a_long_word_takes_no_longer_per_character_than_a_short_one() -> None:
    """As in the log of a step that prints encoded bytes; a quadratic search would take hours."""
    began = time.perf_counter()
    assert hide_secrets_in_text("a" * 300_000) == "a" * 300_000
    assert time.perf_counter() - began < 30
