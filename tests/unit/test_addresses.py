"""An address with a secret is known for one, refused as a parameter, and shown without it."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from download.run import address
from pipeline.config import ConfigError, checked
from serve.run import main as start_scorer
from stepkit.addresses import expect_no_secret, holds_secret, opened, recorded, shown, shown_in
from stepkit.errors import BadParameter, SecretInAddress
from tests.unit.small import composed

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
]


@pytest.mark.parametrize("one", HOLDING)
def test_an_address_with_a_secret_is_refused_and_shown_without_it(one: str) -> None:
    assert holds_secret(one)
    with pytest.raises(SecretInAddress, match="holds a password, a key or a signature") as refused:
        expect_no_secret(one, "file_url", "Do otherwise.")
    for text in (str(refused.value), shown(one), shown_in(f"cannot reach {one}, sorry: '{one}'")):
        assert SECRET not in text
    assert shown(one).startswith(one.partition("://")[0])


@pytest.mark.parametrize("one", PLAIN)
def test_any_other_address_is_taken_as_it_is(one: str) -> None:
    assert not holds_secret(one)
    assert expect_no_secret(one, "file_url", "") == one


def test_what_is_shown_names_the_place() -> None:
    assert shown(SIGNED) == "https://bucket.s3.amazonaws.com/clients.csv"
    assert shown("https://me@example.org/a?version=3") == "https://example.org/a?version=3"


def test_a_variable_stands_for_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_URL", SIGNED)
    assert opened("env:DATA_URL") == SIGNED
    assert recorded("env:DATA_URL") == "https://bucket.s3.amazonaws.com/clients.csv"
    assert opened("data/sample.csv.gz") == recorded("data/sample.csv.gz") == "data/sample.csv.gz"


def test_of_an_address_in_a_variable_no_query_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_URL", f"https://example.org/clients.csv?whatever={SECRET}")
    assert recorded("env:DATA_URL") == "https://example.org/clients.csv"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_URL", raising=False)
    with pytest.raises(BadParameter, match="variable DATA_URL is not set"):
        opened("env:DATA_URL")
    with pytest.raises(BadParameter, match="names no environment variable"):
        opened("env:DATA URL")


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
        checked(composed(f"{key}='{value}'"))
    assert key in str(refused.value)
    assert instead in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_lone_step_refuses_it_before_its_run_is_opened() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        address(SIGNED)
    assert SECRET not in str(refused.value)


def test_the_scorer_refuses_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREDICTION_LOG_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        start_scorer(["--log_url", HOLDING[2]])
    said: Any = capsys.readouterr()
    assert ended.value.code == 2
    assert "Set PREDICTION_LOG_URL instead" in said.err
    assert SECRET not in said.out + said.err
