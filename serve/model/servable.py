"""A registered version of the model, ready to answer: its ONNX graph, its signature, its example."""

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
from serve.model.onnx_graph import Graph, GraphFile, Rows, open_graph
from stepkit.errors import explain_without_rows
from stepkit.store.tracking import forbid_pickles, to_store_error

FLAVOR = "python_function"
WARM_UP_ROUNDS = 20
MAX_REASON_LENGTH = 300
MAX_DIFFERENCE = 1e-6  # ONNX Runtime adds float32 votes in another order on another number of threads: up to 3e-7 apart


@dataclass(frozen=True)
class Servable(Graph):
    """A loaded version of the registered model, with all that MLflow knows of it."""

    metadata: Model
    example: pd.DataFrame

    def to_rows(self, table: pd.DataFrame) -> Rows:
        """Return a table that fits the signature as arrays."""
        numbers = [table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in self.numeric]
        texts = {name: _to_texts(table[name]) for name in self.text}
        shaped = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(table))
        return Rows(self.numeric, shaped, texts, len(table))


def _to_texts(column: pd.Series) -> np.ndarray:
    texts = column.astype(object).where(column.notna(), "").astype(str)
    # numpy drops NUL characters at the end of the texts of `instances` and `inputs`; every shape means the same
    return texts.str.rstrip("\0").to_numpy(dtype=object)


def load_servable(name: str, version: str) -> Servable:
    """Fetch a registered version, and return it once it is `proven`; raises as `refusing`."""
    with reject_on_error(version), tempfile.TemporaryDirectory(prefix="scorer-") as folder:
        return load_verified(name, version, download_model(name, version, folder))


@contextmanager
def reject_on_error(version: str, scoring: bool = False) -> Iterator[None]:
    """Raise ModelRefused for whatever a damaged or foreign model trips over inside.

    MlflowException and OSError pass where the registry, the artifact store or a disk cannot be used.

    Args:
        scoring: rows are scored inside, which an error's message may repeat.
    """
    try:
        yield
    except ModelRefused:
        raise
    except Exception as error:
        if to_store_error(error):
            raise
        reason = " ".join(str(error).split())[:MAX_REASON_LENGTH]
        failed = f"be loaded: {type(error).__name__}: {reason}"
        if scoring:
            failed = f"score its input example: {explain_without_rows(error)}"
        raise ModelRefused(f"version {version} cannot {failed}") from error


def download_model(name: str, version: str, folder: str) -> Path:
    """Fetch a registered version into `folder`; return where the model lies in it."""
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=folder))


def read_graph_file(path: Path, metadata: Model) -> GraphFile:
    """Return what the graph of a model on disk is asked with."""
    files = metadata.flavors[FLAVOR]["artifacts"]
    settings = json.loads((path / files["settings"]["path"]).read_text(encoding="utf-8"))
    names, text = tuple(settings["columns"]), tuple(settings["text"])
    return GraphFile(path / files["onnx"]["path"], names, text, settings["threshold"])


def load_verified(name: str, version: str, path: Path) -> Servable:
    """Return a model on disk, ready; raise ModelRefused unless it provably answers as its own MLflow model does."""
    metadata = Model.load(str(path))
    if metadata.signature is None:
        raise ModelRefused(f"version {version} has no signature. Log it with one.")
    found = read_graph_file(path, metadata)
    forbid_pickles()
    # Before the graph is loaded for us, which then takes the memory that this sets free. The warnings are of packages
    # in other versions: to look for those takes MLflow most of a second, and the answers are compared here anyway.
    model = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
    with reject_on_error(version, scoring=True):
        example = _load_example(metadata, path)
        asked = _add_gaps(example, found.text)
        theirs = model.predict(asked)["probability"].to_numpy()
    del model
    servable = Servable(**vars(open_graph(name, version, found)), metadata=metadata, example=example)
    with reject_on_error(version, scoring=True):
        ours = np.array(servable.score(servable.to_rows(asked)).probability)
        if not (difference := float(np.abs(ours - theirs).max())) < MAX_DIFFERENCE:
            raise ModelRefused(f"version {version} answers otherwise than its MLflow model, by {difference:.1e}.")
    return servable


def _load_example(metadata: Model, path: Path) -> pd.DataFrame:
    example = metadata.load_input_example(str(path))
    if not isinstance(example, pd.DataFrame) or example.empty:
        raise ModelRefused("it has no input example, by which to check its answers. Log it with one.")
    return example


def _add_gaps(example: pd.DataFrame, text: tuple[str, ...]) -> pd.DataFrame:
    """Return the n rows of the example, and once more with no value in any of them: 2n rows."""
    gaps = pd.DataFrame({name: "" if name in text else np.nan for name in example}, index=example.index)
    return pd.concat([example, gaps], ignore_index=True)


def warm_up(servable: Servable, slowest_ms: float) -> float:
    """Score one row again and again; return the median in milliseconds, and raise ModelRefused above `slowest_ms`."""
    row = servable.to_rows(servable.example.head(1))
    median = 1000 * float(np.median(repeat(lambda: servable.score(row), repeat=WARM_UP_ROUNDS, number=1)))
    if median > slowest_ms:
        raise ModelRefused(
            f"version {servable.version} takes {median:.1f} ms for one row, allowed are {slowest_ms:g} (slowest_ms)."
        )
    return median


def verify_same_signature(new: Servable, old: Servable) -> None:
    """Raise ModelRefused unless both take and give the same columns."""
    theirs, ours = _list_signature(new.metadata), _list_signature(old.metadata)
    if theirs == ours:
        return
    changed = sorted({name for name, _ in theirs ^ ours})
    raise ModelRefused(
        f"version {new.version} has another signature than version {old.version} (columns {', '.join(changed)}). "
        "Callers would break; to take it all the same, start with allow_signature_change=true."
    )


def _list_signature(metadata: Model) -> set[tuple[str, str]]:
    """Return the name of each column, and all that is known of it."""
    sides = {"in": metadata.get_input_schema(), "out": metadata.get_output_schema()}
    return {
        (str(column.get("name")), f"{side} {column}")
        for side, schema in sides.items()
        if schema
        for column in schema.to_dict()
    }
