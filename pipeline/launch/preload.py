"""What steps would each load and do anew, done once in the process that they start from, which imports this."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module

# before the import: ONNX Runtime would tell its makers of each graph that it loads
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from pipeline.launch.forkserver import pause_gc

MODULES = (
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracing.provider",
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
    "git",
    "opentelemetry.sdk.trace",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "PIL.PngImagePlugin",
    "narwhals.stable.v2",
    "sklearn.metrics",
    "sklearn.ensemble",
    "sklearn.compose",
    "sklearn.model_selection",
    "scipy.stats",
    "skl2onnx",
    "skops.io",
    "onnxruntime",
    "pytest",
    "fsspec",
    "aiohttp",
    "stepkit.step.run",
    "stepkit.settings.model",
)
"""The heavy imports of all steps; what is not installed is left out. Nothing of a step itself: it is read anew."""


def load_modules() -> None:
    """Import all that is heavy, once for all steps."""
    with pause_gc():
        for name in MODULES:
            with suppress(ImportError):
                import_module(name)
        _fill_package_cache()


def _fill_package_cache() -> None:
    """Let MLflow look which package each installed module is of.

    It does so whenever a model is logged or loaded, for half a second, and remembers it for the rest of the process.
    """
    import mlflow
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    warn_dependency_requirement_mismatches([f"mlflow=={mlflow.__version__}"])


load_modules()
