"""Prometheus metrics of the scorer. Several workers write to one folder; the worker that is asked adds them up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from serve.settings import METRICS_FOLDER_VARIABLE

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SCORES = tuple(round(0.1 * step, 1) for step in range(1, 11))
FEW = 32

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library types it in part

requests = Counter("scorer_requests", "Requests, by path and status", ["path", "status"])
in_progress = Gauge("scorer_requests_in_progress", "Requests without a response yet", multiprocess_mode="livesum")
errors = Counter("scorer_errors", "Requests without a prediction, by error code", ["kind"])
seconds = Histogram("scorer_request_seconds", "Seconds from request to response", ["path"], buckets=SECONDS)
rows = Counter("scorer_rows", "Rows scored, by version and role", ["version", "role"])
scores = Histogram("scorer_score", "Predicted probability of the positive class", ["version"], buckets=SCORES)
commit_seconds = Histogram("scorer_log_commit_seconds", "Seconds per commit to the prediction log", buckets=SECONDS)
unrecorded = Counter("scorer_unrecorded_answers", "Responses sent without a record (when_unavailable=answer)")
log_waiting = Gauge("scorer_log_waiting", "Rows not yet committed to the prediction log", multiprocess_mode="livesum")
log_lag = Gauge("scorer_log_lag_seconds", "Seconds that the oldest of them has waited", multiprocess_mode="livemax")
log_not_kept = Gauge("scorer_log_not_kept", "Rows not logged because of sample_rate", multiprocess_mode="sum")
serving = Gauge(
    "scorer_model_workers", "Workers that serve a version, by role", ["version", "role"], multiprocess_mode="livesum"
)
changes = Counter("scorer_model_changes", "Model versions taken or refused, by role", ["role", "result"])
registry_up = Gauge(
    "scorer_registry_up", "1 if the last poll of the registry worked, else 0", multiprocess_mode="livemin"
)
shadow_dropped = Counter("scorer_shadow_dropped", "Rows that the shadow model did not score")
feedback = Counter("scorer_feedback", "Labels received, by result", ["result"])


def observe_scores(version: str, probabilities: list[float]) -> None:
    """Add n probabilities to the histogram of a model version."""
    histogram = scores.labels(version)
    if len(probabilities) <= FEW:
        for probability in probabilities:
            histogram.observe(probability)
        return
    # The library adds values one by one, which would take a tenth of the time of a large request.
    buckets = np.searchsorted([*SCORES, np.inf], probabilities)
    for bucket, count in enumerate(np.bincount(buckets, minlength=len(SCORES) + 1)):
        histogram._buckets[bucket].inc(int(count))
    histogram._sum.inc(float(np.sum(probabilities)))


def format_metrics() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    folder = os.environ.get(METRICS_FOLDER_VARIABLE)
    if not folder:
        return generate_latest(REGISTRY)
    for pid in {int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("gauge_live*.db")}:
        if not Path(f"/proc/{pid}").exists():  # drops the gauges of an ended worker; its counters stay
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library types it in part
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library types it in part
    return generate_latest(registry)


def remove_folder() -> None:
    """Remove the folder that the workers share, in place of a supervisor that was killed."""
    if folder := os.environ.get(METRICS_FOLDER_VARIABLE):
        shutil.rmtree(folder, ignore_errors=True)  # every worker does this
