"""A summary.json as CI makes it, for tests: every field filled, and texts that try to be markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ci.render import Place
from ci.summary import Summary

GOLDEN = Path(__file__).parents[1] / "unit" / "golden"
COMMIT, MAIN = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
PLACE = Place(COMMIT, "https://github.com/someone/credit/actions/runs/42")


def measure(value: float, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def full(**changes: Any) -> Summary:
    """A pipeline that went well, on other code than main's."""
    steps = [
        {"name": "download", "state": "reused", "seconds": 3.04, "said": "30,000 rows, 25 columns, 2.9 MB"},
        {"name": "preprocess", "state": "reused", "seconds": 0.8, "said": "kept 29,965 of 30,000 rows"},
        {"name": "check_data", "state": "reused", "seconds": 0.81, "said": "94 data checks passed"},
        {"name": "segregate", "state": "reused", "seconds": 0.9, "said": "train 20,975 rows, test 8,990 rows"},
        {"name": "random_forest", "state": "ran", "seconds": 3.66, "said": "AUC 0.7810", "why": "max_depth 13 -> 9"},
        {"name": "evaluate", "state": "ran", "seconds": 1.1, "why": "output of random_forest changed"},
        {"name": "register", "state": "ran", "seconds": 0.5, "said": "version 4", "why": "output of evaluate changed"},
    ]
    given: dict[str, Any] = {
        "data": "uci",
        "commit": COMMIT,
        "succeeded": True,
        "seconds": 9.26,
        "metrics": {
            "roc_auc": measure(0.7775, 0.7661, 0.7889),
            "average_precision": measure(0.5512, 0.5301, 0.5723),
            "brier_score": measure(0.1601, 0.157, 0.1632),
            "recall": measure(0.5604),
            "f1": measure(0.5391),
        },
        "base": {
            "commit": MAIN,
            "data": "uci",
            "metrics": {
                "roc_auc": measure(0.7714, 0.76, 0.7828),
                "average_precision": measure(0.55121),
                "brier_score": measure(0.1583),
                "recall": measure(0.57),
            },
        },
        "confusion": {"tn": 5950, "fp": 1051, "fn": 874, "tp": 1115, "classes": ("good", "bad")},
        "checks": {"passed": 94, "failed": 0, "skipped": 0, "said": "largest KS distance 0.0123 (PAY_AMT2)"},
        "verdict": {"passed": True, "reasons": ["AUC 0.7775 is at least the champion's 0.7714"]},
        "steps": steps,
        "model": "credit_default version 4 is challenger and champion",
    }
    return Summary.model_validate({**given, **changes})


def failed() -> Summary:
    """A pipeline whose data were wrong, in words that try to be more than words."""
    error = (
        "2 of 94 data checks failed\n  EDUCATION: values: 9 is new, see @octocat and <img src=x> [here](http://x.io)"
    )
    steps = [
        {"name": "download", "state": "ran", "seconds": 3.0},
        {"name": "preprocess", "state": "ran", "seconds": 0.8},
        {"name": "check_data", "state": "failed", "seconds": 0.81},
        {
            "name": "segregate",
            "state": "ran",
            "seconds": 0.9,
            "said": "`a` | **b** | #1 ~c~ https://x.io www.x.io \u202eabc",
        },
        {"name": "random_forest", "state": "not run"},
    ]
    return Summary.model_validate({"data": "uci", "succeeded": False, "seconds": 5.0, "steps": steps, "error": error})
