"""A registered version of the model, ready to answer: its ONNX graph, its signature, its example."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model

from serve.errors import ModelRefused
from serve.model.onnx_graph import Described, Graph, Rows, open_graph
from stepkit.errors import reason_without_rows
from stepkit.files import disk_problem
from stepkit.store.tracking import refuse_pickles, trouble_of

FLAVOR = "python_function"
WARM_UP_ROUNDS = 20
LONGEST_REASON = 300

EQUAL = 1e-6
"""ONNX Runtime adds the trees' float32 votes in another order on another number of threads: up to 3e-7 apart."""


@dataclass(frozen=True)
class Servable(Graph):
    """A loaded version of the registered model, with all that MLflow knows of it."""

    metadata: Model
    example: pd.DataFrame

    def rows_of(self, table: pd.DataFrame) -> Rows:
        """Return a table that fits the signature as arrays."""
        numbers = [table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in self.numeric]
        texts = {name: _texts(table[name]) for name in self.text}
        shaped = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(table))
        return Rows(self.numeric, shaped, texts, len(table))


def _texts(column: pd.Series) -> np.ndarray:
    texts = column.astype(object).where(column.notna(), "").astype(str)
    # numpy drops NUL characters at the end of the texts of `instances` and `inputs`; every shape means the same
    return texts.str.rstrip("\0").to_numpy(dtype=object)


def load(name: str, version: str) -> Servable:
    """Fetch a registered version and make it ready; prove that it answers as its own MLflow model does.

    Raises:
        ModelRefused: it cannot be loaded, or its answers are not finite or not those of its MLflow model.
        MlflowException, OSError: the registry or the artifact store cannot be reached.
    """
    with refusing(version), tempfile.TemporaryDirectory(prefix="scorer-") as folder:
        return proven(name, version, download(name, version, folder))


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_REASON]}"


@contextmanager
def refusing(version: str, failed: str = "be loaded", reason: Callable[[Exception], str] = _in_short) -> Iterator[None]:
    """Raise ModelRefused for whatever a damaged or foreign model trips over; a registry that is gone is another thing.

    Args:
        failed: what the version cannot do if something is raised inside.
        reason: returns why; `reason_without_rows` where a message may repeat rows.

    Raises:
        ModelRefused: it, or what was raised inside.
        MlflowException, OSError: the registry or the artifact store cannot be reached.
    """
    try:
        yield
    except ModelRefused:
        raise
    except Exception as error:
        if trouble_of(error) or disk_problem(error):
            raise
        raise ModelRefused(f"version {version} cannot {failed}: {reason(error)}") from error


def download(name: str, version: str, folder: str) -> Path:
    """Fetch a registered version into `folder`; return where the model lies in it."""
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=folder))


def described(path: Path, metadata: Model) -> Described:
    """Return what the graph of a model on disk is asked with."""
    files = metadata.flavors[FLAVOR]["artifacts"]
    settings = json.loads((path / files["settings"]["path"]).read_text(encoding="utf-8"))
    names, text = tuple(settings["columns"]), tuple(settings["text"])
    return Described(path / files["onnx"]["path"], names, text, settings["threshold"])


def proven(name: str, version: str, path: Path) -> Servable:
    """Make a model on disk ready, and prove that it answers as its own MLflow model does.

    Raises:
        ModelRefused: it does not, or has nothing by which to tell.
    """
    metadata = Model.load(str(path))
    if metadata.signature is None:
        raise ModelRefused(f"version {version} has no signature. Log it with one.")
    found = described(path, metadata)
    refuse_pickles()
    # Before the graph is loaded for us, which then takes the memory that this sets free. The warnings are of packages
    # in other versions: to look for those takes MLflow most of a second, and the answers are compared here anyway.
    model = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
    with refusing(version, "score its input example", reason_without_rows):
        example = _example(metadata, path)
        asked = _with_gaps(example, list(found.text))
        theirs = model.predict(asked)["probability"].to_numpy()
    del model
    servable = Servable(**vars(open_graph(name, version, found)), metadata=metadata, example=example)
    with refusing(version, "score its input example", reason_without_rows):
        _expect_answers(servable, asked, theirs)
    return servable


def _example(metadata: Model, path: Path) -> pd.DataFrame:
    example = metadata.load_input_example(str(path))
    if not isinstance(example, pd.DataFrame) or example.empty:
        raise ModelRefused("it has no input example, by which to check its answers. Log it with one.")
    return example


def _with_gaps(example: pd.DataFrame, text: list[str]) -> pd.DataFrame:
    """Return the n rows of the example, and once more with no value in any of them: 2n rows."""
    gaps = example.copy()
    gaps.loc[:, [name for name in example if name not in text]] = np.nan
    gaps.loc[:, text] = ""
    return pd.concat([example, gaps], ignore_index=True)


def _expect_answers(servable: Servable, rows: pd.DataFrame, theirs: np.ndarray) -> None:
    """Compare with the answers that the MLflow model gave, the one that was registered, to the same n rows."""
    ours = np.array(servable.score(servable.rows_of(rows)).probability)
    if not (difference := float(np.abs(ours - theirs).max())) < EQUAL:
        raise ModelRefused(f"version {servable.version} answers otherwise than its MLflow model, by {difference:.1e}.")


def warm_up(servable: Servable, slowest_ms: float) -> float:
    """Score one row again and again; return the median in milliseconds.

    Raises:
        ModelRefused: slower than `slowest_ms`.
    """
    row = servable.rows_of(servable.example.head(1))
    taken = [_milliseconds(servable, row) for _ in range(WARM_UP_ROUNDS)]
    median = float(np.median(taken))
    if median > slowest_ms:
        raise ModelRefused(
            f"version {servable.version} takes {median:.1f} ms for one row, allowed are {slowest_ms:g} (slowest_ms)."
        )
    return median


def _milliseconds(servable: Servable, rows: Rows) -> float:
    start = perf_counter()
    servable.score(rows)
    return (perf_counter() - start) * 1000


def expect_same_signature(new: Servable, old: Servable) -> None:
    """Raise ModelRefused unless both take and give the same columns."""
    theirs, ours = _signature(new.metadata), _signature(old.metadata)
    if theirs == ours:
        return
    changed = sorted({name for name, _ in theirs ^ ours})
    raise ModelRefused(
        f"version {new.version} has another signature than version {old.version} (columns {', '.join(changed)}). "
        "Callers would break; to take it all the same, start with allow_signature_change=true."
    )


def _signature(metadata: Model) -> set[tuple[str, str]]:
    """Each column with all that is said of it."""
    sides = (("in", metadata.signature.inputs), ("out", metadata.signature.outputs)) if metadata.signature else ()
    return {
        (str(column.get("name")), f"{side} {column}") for side, schema in sides if schema for column in schema.to_dict()
    }
