"""Helpers for tests of the prediction log: open a log, and query it without the code under test."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from sqlalchemy import make_url

from prediction_log.settings import LogSettings
from prediction_log.writer import PredictionLog
from tests.support.log_writer_process import make_prediction


def create_database(uri: str) -> str:
    name = f"log_{uuid.uuid4().hex}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{uri.rpartition('/')[0]}/{name}"


@contextmanager
def open_log(url: str, **settings: Any) -> Iterator[PredictionLog]:
    log = PredictionLog.open(url, LogSettings(**settings))
    try:
        yield log
    finally:
        log.close(5)


def query_database(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Query the database through a connection that is independent of the code under test."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(url).database))) as connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def count_ids(url: str) -> Counter[str]:
    return Counter(name for (name,) in query_database(url, "SELECT request_id FROM predictions"))


def write_predictions(log: PredictionLog, *names: str) -> None:
    for future in [log.submit([make_prediction(name)]) for name in names]:
        future.result(20)
