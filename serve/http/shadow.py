"""The shadow model: scores a copy of the traffic in a thread of its own, after the answer, for the record only.

It may cost the answers next to nothing, so it works for a few hundredths of the time: some rows in one call and one
commit, then a rest. What it has no time for is dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from prediction_log.writer import Prediction, PredictionLog
from serve.http import metrics
from serve.http.event_log import log_event
from serve.model.microbatch import join_rows
from serve.model.onnx_graph import Rows
from serve.model.servable import Servable
from stepkit.errors import explain_without_rows

Job = tuple[Rows, list[Prediction]]

ROWS_AT_ONCE = 200
SHARE_OF_TIME = 0.04
SHORTEST_REST_SECONDS = 0.25
PATIENCE_SECONDS = 60.0


class Shadow:
    """Takes what was answered and records what the shadow model would have answered."""

    def __init__(self, model: Callable[[], Servable | None], log: PredictionLog, most_rows: int) -> None:
        self._model = model
        self._log = log
        self._most_rows = most_rows
        self._jobs: deque[Job] = deque()
        self._rows = 0
        self._change = threading.Condition()
        # apart from the condition: who rests must not be woken by each request
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, rows: Rows, answered: list[Prediction]) -> None:
        """Queue the n rows of one request, or drop them when too many wait already; never waits for the model."""
        if not answered or self._model() is None:
            return
        with self._change:
            # a request that is larger than the queue has a chance too, when nothing else waits
            fits = not self._rows or self._rows + rows.count <= self._most_rows
            if fits:
                for start in range(0, rows.count, ROWS_AT_ONCE):
                    end = start + ROWS_AT_ONCE
                    self._jobs.append((rows.slice(start, end), answered[start:end]))
                self._rows += rows.count
                self._change.notify()
        if not fits:
            metrics.shadow_dropped.inc(rows.count)

    def stop(self, seconds: float) -> None:
        """Let the thread finish what is queued, without rests, as far as the time allows; the rest is dropped."""
        self._closing.set()
        with self._change:
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)
        with self._change:
            metrics.shadow_dropped.inc(self._rows)
            self._jobs.clear()

    def _run(self) -> None:
        while jobs := self._take_jobs():
            started = time.perf_counter()
            model = self._model()
            fitting = [(rows, answered) for rows, answered in jobs if model and _has_same_columns(model, rows)]
            metrics.shadow_dropped.inc(sum(rows.count for rows, _ in jobs) - sum(rows.count for rows, _ in fitting))
            if model and fitting:
                self._score(
                    model, join_rows([rows for rows, _ in fitting]), [one for _, each in fitting for one in each]
                )
            worked = time.perf_counter() - started
            self._closing.wait(max(SHORTEST_REST_SECONDS, worked * (1 / SHARE_OF_TIME - 1)))

    def _take_jobs(self) -> list[Job]:
        """Wait for rows and return as many as are scored together; none at the end."""
        with self._change:
            self._change.wait_for(lambda: self._jobs or self._closing.is_set())
            taken: list[Job] = []
            count = 0
            while self._jobs and count + self._jobs[0][0].count <= ROWS_AT_ONCE:
                taken.append(self._jobs.popleft())
                count += taken[-1][0].count
            self._rows -= count
            return taken

    def _score(self, model: Servable, rows: Rows, answered: list[Prediction]) -> None:
        start = time.perf_counter()
        try:
            scores = model.score(rows)
        except Exception as error:  # whatever the graph trips over: the thread must live, and nobody waits for this
            log_event("shadow_failed", version=model.version, error=explain_without_rows(error))
            return
        metrics.rows.labels(model.version, "shadow").inc(rows.count)
        same: dict[str, Any] = {
            "model_name": model.name,
            "model_version": model.version,
            "shadow": True,
            "latency_ms": (time.perf_counter() - start) * 1000,
        }
        scored = [
            one._replace(**same, probability=probability, predicted=predicted)
            for one, probability, predicted in zip(answered, scores.probability, scores.predicted, strict=True)
        ]
        # under the ids of answers that are on record, so nothing is to be asked about them
        future = self._log.submit(scored, fresh=True)
        try:
            future.result(PATIENCE_SECONDS)  # so no more than one group of these waits among the answers' own
        except Exception as error:
            log_event("shadow_unrecorded", rows=rows.count, error=explain_without_rows(error))


def _has_same_columns(model: Servable, rows: Rows) -> bool:
    """Whether rows that an earlier champion answered have the columns of this model."""
    return rows.names == model.numeric and set(rows.texts) == set(model.text)
