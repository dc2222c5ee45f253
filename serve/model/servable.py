"""A registered version of the model, ready to serve: its ONNX graph, signature and input example."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from timeit import repeat

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model

from serve.errors import ModelRefused
from serve.model.onnx_graph import MAX_DIFFERENCE, Graph, GraphFile, Rows, open_graph
from stepkit.errors import explain_without_rows
from stepkit.settings.model import CALIBRATION, NOT_CALIBRATED
from stepkit.store.tracking import forbid_pickles, to_store_error

FLAVOR = "python_function"
INPUT = "in"
REASONS_CODE = "stepkit/model/reasons.py"
"""Code of the reasons, in the code that is packed with a model (training/export.py)."""
WARM_UP_ROUNDS = 20
MAX_REASON_LENGTH = 300


@dataclass(frozen=True)
class Servable(Graph):
    """Loaded version of the registered model, with its MLflow metadata and input example."""

    metadata: Model
    example: pd.DataFrame

    def to_rows(self, table: pd.DataFrame) -> Rows:
        """Convert a table that fits the signature to arrays."""
        numbers = [table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in self.numeric]
        texts = {name: _to_texts(table[name]) for name in self.text}
        shaped = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(table))
        return Rows(self.numeric, shaped, texts, len(table))


def _to_texts(column: pd.Series) -> np.ndarray:
    texts = column.astype(object).where(column.notna(), "").astype(str)
    # numpy drops NUL characters at the end of texts in `instances` and `inputs`; all request formats must agree.
    return texts.str.rstrip("\0").to_numpy(dtype=object)


def load_servable(name: str, version: str) -> Servable:
    """Download a registered version, verify its predictions and return it; raise as `reject_on_error`."""
    with reject_on_error(version), tempfile.TemporaryDirectory(prefix="scorer-") as folder:
        return load_verified(name, version, download_model(name, version, folder))


@contextmanager
def reject_on_error(version: str, scoring: bool = False) -> Iterator[None]:
    """Raise ModelRefused for any error in the block, except if the registry, artifact store or disk is unavailable.

    Args:
        version: for the message.
        scoring: the block scores rows, so messages of libraries may repeat values and are left out.
    """
    try:
        yield
    except ModelRefused:
        raise
    except Exception as error:
        if to_store_error(error):
            raise
        reason = " ".join(str(error).split())[:MAX_REASON_LENGTH]
        problem = f"cannot be loaded ({type(error).__name__}: {reason})"
        if scoring:
            problem = f"cannot score its input example ({explain_without_rows(error)})"
        raise ModelRefused(f"version {version}: {problem}.") from error


def download_model(name: str, version: str, folder: str) -> Path:
    """Download a registered version into `folder`; return the model's path."""
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=folder))


def read_graph_file(path: Path, metadata: Model) -> GraphFile:
    """Return the graph of a model on disk, with its columns and threshold."""
    files = {name: path / place["path"] for name, place in metadata.flavors[FLAVOR]["artifacts"].items()}
    settings = json.loads(files["settings"].read_text(encoding="utf-8"))
    reasons = settings.get("reasons")
    return GraphFile(
        files["onnx"],
        tuple(settings["columns"]),
        tuple(settings["text"]),
        settings["threshold"],
        settings.get(CALIBRATION, NOT_CALIBRATED),
        tuple(settings.get("protected", ())),
        reasons,
        files["record"] / REASONS_CODE if reasons and "record" in files else None,
        files.get("columns"),
    )


def load_verified(name: str, version: str, path: Path) -> Servable:
    """Load a model from disk; raise ModelRefused unless its predictions equal those of its own MLflow model."""
    metadata = Model.load(str(path))
    if metadata.signature is None:
        raise ModelRefused(f"version {version}: no signature. Log the model with a signature.")
    graph_file = read_graph_file(path, metadata)
    forbid_pickles()
    # Loaded before our own graph, which then reuses the freed memory. MLflow's warnings about package versions are
    # suppressed: they take most of a second, and the predictions are compared here anyway.
    model = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
    with reject_on_error(version, scoring=True):
        example = _load_example(version, metadata, path)
        table = _add_gaps(example, graph_file.text)
        expected = model.predict(table)["probability"].to_numpy()
    del model
    servable = Servable(**vars(open_graph(name, version, graph_file)), metadata=metadata, example=example)
    with reject_on_error(version, scoring=True):
        actual = np.array(servable.score(servable.to_rows(table)).probability)
        if not (difference := float(np.abs(actual - expected).max())) < MAX_DIFFERENCE:
            raise ModelRefused(
                f"version {version}: predictions differ from its MLflow model by up to {difference:.1e} "
                f"(allowed: {MAX_DIFFERENCE:.0e})."
            )
    return servable


def _load_example(version: str, metadata: Model, path: Path) -> pd.DataFrame:
    example = metadata.load_input_example(str(path))
    if not isinstance(example, pd.DataFrame) or example.empty:
        raise ModelRefused(
            f"version {version}: no input example to check predictions with. Log the model with an input example."
        )
    return example


def _add_gaps(example: pd.DataFrame, text: tuple[str, ...]) -> pd.DataFrame:
    """Return 2n rows: the n rows of the example, and n rows without any value."""
    gaps = pd.DataFrame({name: "" if name in text else np.nan for name in example}, index=example.index)
    return pd.concat([example, gaps], ignore_index=True)


def warm_up(servable: Servable, slowest_ms: float) -> float:
    """Score one row repeatedly; return the median in milliseconds, and raise ModelRefused above `slowest_ms`."""
    row = servable.to_rows(servable.example.head(1))
    median = 1000 * float(np.median(repeat(lambda: servable.score(row), repeat=WARM_UP_ROUNDS, number=1)))
    if median > slowest_ms:
        raise ModelRefused(
            f"version {servable.version}: too slow (found {median:.1f} ms for one row, expected at most "
            f"slowest_ms={slowest_ms:g})."
        )
    return median


def verify_compatible_signature(new: Servable, old: Servable) -> None:
    """Raise ModelRefused unless callers of the old version can use the new one: no further inputs, the same outputs.

    Callers may keep sending inputs that the new version does not have, such as protected columns.
    """
    new_columns, old_columns = _list_signature(new.metadata), _list_signature(old.metadata)
    dropped = {(name, column) for name, column in old_columns - new_columns if column.startswith(INPUT)}
    if changed := sorted({name for name, _ in new_columns ^ (old_columns - dropped)}):
        raise ModelRefused(
            f"version {new.version}: signature differs from version {old.version} (columns {', '.join(changed)}). "
            "Callers would break. To accept the change, restart with allow_signature_change=true."
        )


def _list_signature(metadata: Model) -> set[tuple[str, str]]:
    """Return the name of each input and output column, with its side, type and other properties as text."""
    sides = {INPUT: metadata.get_input_schema(), "out": metadata.get_output_schema()}
    return {
        (str(column.get("name")), f"{side} {column}")
        for side, schema in sides.items()
        if schema
        for column in schema.to_dict()
    }
