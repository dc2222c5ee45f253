"""Drift results as `mlflow run ./drift` writes them, for tests of the code that reads them."""

from __future__ import annotations

import copy
from typing import Any

RESULT: dict[str, Any] = {
    "run_id": "d" * 32,
    "experiment_id": "7",
    "model": {"name": "credit_default", "version": "3"},
    "reference": "models:/credit_default@champion",
    "current": "log:?from=2026-11-01T00:00Z&to=2026-11-02T00:00Z",
    "window": {
        "from": "2026-11-01T00:00:00+00:00",
        "to": "2026-11-02T00:00:00+00:00",
        "rows": 2000,
        "key": "window-1",
    },
    "status": "ok",
    "dataset_drift": True,
    "drift_share": 0.087,
    "drifted": [
        {"column": "LIMIT_BAL", "test": "ks", "score": 0.2314, "threshold": 0.03},
        {"column": "AGE", "test": "ks", "score": 0.1, "threshold": 0.03},
    ],
    "signals": {
        "drift_share": {"value": 0.087, "threshold": 0.0, "alarm": True},
        "missing": {"value": 0.0, "threshold": 0.01, "alarm": False},
    },
    "decision": {"action": "alert", "reason": "drift_share. No retraining yet", "signals": ["drift_share"]},
    "report": f"runs:/{'d' * 32}/drift_report.html",
}


def make_result(action: str = "alert", *, day: int = 1, alarm: bool = True, **more: Any) -> dict[str, Any]:
    """Return a result for the window of one day of November 2026."""
    result = copy.deepcopy({**RESULT, **more})
    result["decision"]["action"] = action
    result["signals"]["drift_share"]["alarm"] = alarm
    span = {"from": f"2026-11-{day:02}T00:00:00+00:00", "to": f"2026-11-{day + 1:02}T00:00:00+00:00"}
    result["window"] |= {**span, "key": f"window-{day}"}
    if not alarm:
        result |= {"drifted": [], "drift_share": 0.0, "dataset_drift": False}
    return result
