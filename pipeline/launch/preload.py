"""Heavy imports of all steps. The forkserver imports this module once, so that steps do not repeat the work."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module

# ONNX Runtime sends telemetry for every graph it loads unless this is set before the import.
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
"""Heavy modules that the steps import. Modules that are not installed are skipped. The modules of the steps themselves
are not listed: each step run must read their current code."""


def load_modules() -> None:
    """Import the heavy modules and fill MLflow's caches."""
    with pause_gc():
        for name in MODULES:
            with suppress(ImportError):
                import_module(name)
        _fill_package_cache()


def _fill_package_cache() -> None:
    """Make MLflow look up the package of each installed module.

    The first lookup takes half a second whenever a process logs or loads a model; later ones use a cache.
    """
    import mlflow
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    warn_dependency_requirement_mismatches([f"mlflow=={mlflow.__version__}"])


load_modules()
