"""Limits of the shadow model: the rows in its queue, the rows in one call, and the columns that it accepts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest

from prediction_log.read import read_log
from prediction_log.writer import Prediction, PredictionLog
from serve.http import metrics
from serve.http.shadow import ROWS_AT_ONCE, Shadow
from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable


@dataclass
class Gated:
    """Model that predicts 0.5 once the gate is open, and records the number of rows of each call."""

    name: str = "credit"
    version: str = "2"
    numeric: tuple[str, ...] = ("a",)
    text: tuple[str, ...] = ()
    gate: threading.Event = field(default_factory=threading.Event)
    called: threading.Event = field(default_factory=threading.Event)
    calls: list[int] = field(default_factory=list)

    def score(self, rows: Rows) -> Scores:
        self.calls.append(rows.count)
        self.called.set()
        assert self.gate.wait(60)
        return Scores([0.5] * rows.count, [1] * rows.count)


def make_request(name: str, count: int, column: str = "a") -> tuple[Rows, list[Prediction]]:
    now = datetime.now(UTC)
    answered = [Prediction(name, row, now, "credit", "1", False, {column: 1.0}, 0.1, 0, 1.0) for row in range(count)]
    return Rows((column,), np.ones((1, count)), {}, count), answered


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    log = PredictionLog.open(f"sqlite:///{tmp_path / 'log.db'}")
    yield log
    log.close(10)


def read_shadow_log(log: PredictionLog) -> pd.DataFrame:
    return read_log(str(log.engine.url), shadow=True)


def start_shadow(model: Gated, log: PredictionLog) -> Shadow:
    shadow = Shadow(lambda: cast(Servable, model), log, 10)
    shadow.start()
    return shadow


def count_dropped() -> float:
    return float(metrics.shadow_dropped._value.get())


def test_more_rows_than_may_wait_are_dropped_and_counted(log: PredictionLog) -> None:
    model, before = Gated(), count_dropped()
    shadow = start_shadow(model, log)
    shadow.offer(*make_request("first", 4))
    assert model.called.wait(60)
    for name in ("second", "third", "fourth"):
        shadow.offer(*make_request(name, 4))
    assert count_dropped() - before == 4
    model.gate.set()
    shadow.stop(30)
    rows = read_shadow_log(log)
    assert sorted(rows["request_id"]) == ["first"] * 4 + ["second"] * 4 + ["third"] * 4
    assert set(rows["model_version"]) == {"2"}
    assert model.calls == [4, 8]  # queued rows are scored together


def test_a_large_request_is_scored_in_pieces_even_if_it_is_larger_than_the_queue(log: PredictionLog) -> None:
    model = Gated()
    model.gate.set()
    shadow = start_shadow(model, log)
    shadow.offer(*make_request("large", 2 * ROWS_AT_ONCE + 50))
    shadow.stop(30)
    assert model.calls == [ROWS_AT_ONCE, ROWS_AT_ONCE, 50]
    assert sorted(read_shadow_log(log)["row"]) == list(range(2 * ROWS_AT_ONCE + 50))


def test_rows_of_other_columns_are_dropped_and_do_not_stop_it(log: PredictionLog) -> None:
    model, before = Gated(), count_dropped()
    model.gate.set()
    shadow = start_shadow(model, log)
    shadow.offer(*make_request("other", 2, column="b"))
    shadow.offer(*make_request("own", 1))
    shadow.stop(30)
    assert count_dropped() - before == 2
    assert list(read_shadow_log(log)["request_id"]) == ["own"]


def test_what_it_has_no_time_for_at_the_end_is_dropped_and_counted(log: PredictionLog) -> None:
    model, before = Gated(), count_dropped()
    shadow = start_shadow(model, log)
    shadow.offer(*make_request("first", 1))
    assert model.called.wait(60)
    shadow.offer(*make_request("second", 3))
    shadow.stop(0.01)
    assert count_dropped() - before == 3
    model.gate.set()
