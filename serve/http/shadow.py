"""Shadow model: scores a copy of the traffic in a separate thread after the response, for the prediction log only.

To keep responses fast, the thread works only a small share of the time: it scores and commits some rows, then pauses.
Rows that it has no time for are dropped and counted.
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
SHORTEST_PAUSE_SECONDS = 0.25
COMMIT_TIMEOUT_SECONDS = 60.0


class Shadow:
    """Queue of scored rows, and the thread that records the shadow model's predictions for them."""

    def __init__(self, model: Callable[[], Servable | None], log: PredictionLog, most_rows: int) -> None:
        self._model = model
        self._log = log
        self._most_rows = most_rows
        self._jobs: deque[Job] = deque()
        self._rows = 0
        self._change = threading.Condition()
        # Separate from the condition, which every request notifies: a request must not end the pause.
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, rows: Rows, predictions: list[Prediction]) -> None:
        """Queue the n rows of one request, or drop them if the queue is full; never waits."""
        if not predictions or self._model() is None:
            return
        with self._change:
            # An empty queue accepts a request of any size, even one larger than the queue.
            fits = not self._rows or self._rows + rows.count <= self._most_rows
            if fits:
                for start in range(0, rows.count, ROWS_AT_ONCE):
                    end = start + ROWS_AT_ONCE
                    self._jobs.append((rows.slice(start, end), predictions[start:end]))
                self._rows += rows.count
                self._change.notify()
        if not fits:
            metrics.shadow_dropped.inc(rows.count)

    def stop(self, seconds: float) -> None:
        """Let the thread score the queued rows without pauses for up to `seconds`, then drop the remaining rows."""
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
            # The champion may have changed since these rows were scored, and with it the columns.
            fitting = [(rows, predictions) for rows, predictions in jobs if model and _has_same_columns(model, rows)]
            metrics.shadow_dropped.inc(sum(rows.count for rows, _ in jobs) - sum(rows.count for rows, _ in fitting))
            if model and fitting:
                all_rows = join_rows([rows for rows, _ in fitting])
                self._score(model, all_rows, [row for _, predictions in fitting for row in predictions])
            seconds = time.perf_counter() - started
            self._closing.wait(max(SHORTEST_PAUSE_SECONDS, seconds * (1 / SHARE_OF_TIME - 1)))

    def _take_jobs(self) -> list[Job]:
        """Wait for rows and return the jobs to score together; an empty list at the end."""
        with self._change:
            self._change.wait_for(lambda: self._jobs or self._closing.is_set())
            jobs: list[Job] = []
            count = 0
            while self._jobs and count + self._jobs[0][0].count <= ROWS_AT_ONCE:
                jobs.append(self._jobs.popleft())
                count += jobs[-1][0].count
            self._rows -= count
            return jobs

    def _score(self, model: Servable, rows: Rows, predictions: list[Prediction]) -> None:
        start = time.perf_counter()
        try:
            scores = model.score(rows)
        except Exception as error:  # the thread must survive every failure of a graph, and no request waits for it
            log_event("shadow_failed", version=model.version, error=explain_without_rows(error))
            return
        metrics.rows.labels(model.version, "shadow").inc(rows.count)
        shared: dict[str, Any] = {
            "model_name": model.name,
            "model_version": model.version,
            "shadow": True,
            "latency_ms": (time.perf_counter() - start) * 1000,
        }
        scored = [
            prediction._replace(**shared, probability=probability, predicted=predicted)
            for prediction, probability, predicted in zip(
                predictions, scores.probability, scores.predicted, strict=True
            )
        ]
        # The champion's predictions are committed under these ids, so the log need not check the ids again.
        future = self._log.submit(scored, fresh=True)
        try:
            future.result(COMMIT_TIMEOUT_SECONDS)  # at most one group of shadow rows waits in the log's queue
        except Exception as error:
            log_event("shadow_unrecorded", rows=rows.count, error=explain_without_rows(error))


def _has_same_columns(model: Servable, rows: Rows) -> bool:
    return rows.names == model.numeric and set(rows.texts) == set(model.text)
