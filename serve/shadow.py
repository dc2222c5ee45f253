"""The shadow model: scores a copy of the traffic in a thread of its own, after the answer, for the record only."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from serve import metrics
from serve.journal import note
from serve.model import Rows, Servable
from serve.record.log import Prediction, PredictionLog

Job = tuple[Rows, list[Prediction]]


class Shadow:
    """Takes what was answered and records what the shadow model would have answered; drops what it has no time for."""

    def __init__(self, model: Callable[[], Servable | None], log: PredictionLog, waiting: int) -> None:
        self._model = model
        self._log = log
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=waiting)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, rows: Rows, answered: list[Prediction]) -> None:
        """Queue one request; never waits."""
        if self._model() is None:
            return
        try:
            self._jobs.put_nowait((rows, answered))
        except queue.Full:
            metrics.shadow_dropped.inc()

    def stop(self, seconds: float) -> None:
        """Let the thread finish what is queued, as far as the time allows."""
        if not self._thread.is_alive():
            return
        try:
            self._jobs.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            model = self._model()
            if model:
                self._score(model, *job)

    def _score(self, model: Servable, rows: Rows, answered: list[Prediction]) -> None:
        start = time.perf_counter()
        try:
            scores = model.score(rows)
        except Exception as error:  # whatever the graph trips over: the thread must live, and nobody waits for this
            note("shadow_failed", version=model.version, error=f"{type(error).__name__}: {error}"[:300])
            return
        latency_ms = (time.perf_counter() - start) * 1000
        predictions = [
            replace(
                one,
                model_name=model.name,
                model_version=model.version,
                shadow=True,
                probability=probability,
                predicted=predicted,
                latency_ms=latency_ms,
            )
            for one, probability, predicted in zip(answered, scores.probability, scores.predicted, strict=True)
        ]
        metrics.rows.labels(model.version, "shadow").inc(rows.count)
        self._log.submit(predictions).add_done_callback(_note_failure)


def _note_failure(future: Future[None]) -> None:
    if error := future.exception():
        note("shadow_unrecorded", error=str(error)[:300])
