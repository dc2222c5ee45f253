"""The shadow model: scores a copy of the traffic in a thread of its own, after the answer, for the record only.

It may cost the answers next to nothing, so it works for a few hundredths of the time: some rows in one call and one
commit, then a rest. What it has no time for is dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from prediction_log.writer import Prediction, PredictionLog
from serve.http import metrics
from serve.http.event_log import note
from serve.model.microbatch import joined
from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable
from stepkit.errors import reason_without_rows

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
                self._jobs.extend(_parts(rows, answered))
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
        while jobs := self._take():
            started = time.perf_counter()
            model = self._model()
            fitting = [job for job in jobs if model and _fits(job[0], model)]
            metrics.shadow_dropped.inc(sum(rows.count for rows, _ in jobs) - sum(rows.count for rows, _ in fitting))
            if model and fitting:
                self._score(model, fitting)
            self._rest(time.perf_counter() - started)

    def _take(self) -> list[Job]:
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

    def _rest(self, worked: float) -> None:
        self._closing.wait(max(SHORTEST_REST_SECONDS, worked * (1 / SHARE_OF_TIME - 1)))

    def _score(self, model: Servable, jobs: list[Job]) -> None:
        start = time.perf_counter()
        rows = joined([rows for rows, _ in jobs])
        try:
            scores = model.score(rows)
        except Exception as error:  # whatever the graph trips over: the thread must live, and nobody waits for this
            note("shadow_failed", version=model.version, error=reason_without_rows(error))
            return
        latency_ms = (time.perf_counter() - start) * 1000
        metrics.rows.labels(model.version, "shadow").inc(rows.count)
        answered = [one for _, predictions in jobs for one in predictions]
        # under the ids of answers that are on record, so nothing is to be asked about them
        future = self._log.submit(_as_shadow(model, answered, scores, latency_ms), fresh=True)
        try:
            future.result(PATIENCE_SECONDS)  # so no more than one group of these waits among the answers' own
        except Exception as error:
            note("shadow_unrecorded", rows=rows.count, error=reason_without_rows(error))


def _parts(rows: Rows, answered: list[Prediction]) -> Iterator[Job]:
    """A large request in pieces that are scored one at a time."""
    if rows.count <= ROWS_AT_ONCE:
        yield rows, answered
        return
    for start in range(0, rows.count, ROWS_AT_ONCE):
        end = start + ROWS_AT_ONCE
        yield rows.part(start, end), answered[start:end]


def _fits(rows: Rows, model: Servable) -> bool:
    """Whether rows that an earlier champion answered have the columns of this model."""
    return rows.names == model.numeric and set(rows.texts) == set(model.text)


def _as_shadow(model: Servable, answered: list[Prediction], scores: Scores, latency_ms: float) -> list[Prediction]:
    """What the shadow would have answered to n rows, under the ids of the answers."""
    return [
        one._replace(
            model_name=model.name,
            model_version=model.version,
            shadow=True,
            probability=probability,
            predicted=predicted,
            latency_ms=latency_ms,
        )
        for one, probability, predicted in zip(answered, scores.probability, scores.predicted, strict=True)
    ]
