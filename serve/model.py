"""A registered version of the model, ready to answer: its ONNX graph, its signature, its example."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

# before the import: ONNX Runtime would tell its makers of each graph that it loads
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import Model

from serve.errors import ModelRefused
from serve.record.rows import features_texts
from stepkit.tracking import is_unreachable

FLAVOR = "python_function"
PROBABILITIES = "probabilities"
WARM_UP_ROUNDS = 20
LONGEST_REASON = 300
FEW = 10
"""Rows up to this number are put on record sooner one by one than as a table."""

EQUAL = 1e-6
"""ONNX Runtime adds the trees' float32 votes in another order on another number of threads: up to 3e-7 apart."""


@dataclass(frozen=True)
class Rows:
    """n raw rows, column by column; a missing number is NaN, a missing text the empty text.

    `numbers` is a k x n array of doubles in the order of `names`; `texts` holds n texts for each text column.
    """

    names: tuple[str, ...]
    numbers: np.ndarray
    texts: dict[str, np.ndarray]
    count: int

    def part(self, start: int, end: int) -> Rows:
        """Return the rows from `start` up to, not including, `end`; they share memory with these."""
        texts = {name: column[start:end] for name, column in self.texts.items()}
        return Rows(self.names, self.numbers[:, start:end], texts, min(end, self.count) - start)

    def inputs(self) -> dict[str, np.ndarray]:
        """Return the graph's inputs: one (n, 1) array per column, float32 or text."""
        with np.errstate(over="ignore"):  # beyond float32 means infinity, as for the model's own predictor
            numbers = self.numbers.astype(np.float32)[:, :, None]
        texts = {name: column.reshape(-1, 1) for name, column in self.texts.items()}
        return {**dict(zip(self.names, numbers, strict=True)), **texts}

    def features(self, hidden: frozenset[str] = frozenset()) -> Sequence[dict[str, Any] | str]:
        """Return the n rows for the record: as `dictionaries`, or as texts where that is quicker.

        A text goes into the log as it is, and so has no value of the hidden columns.
        """
        if self.count > FEW and not self.texts and (texts := features_texts(self.names, self.numbers.T, hidden)):
            return texts
        return self.dictionaries()

    def dictionaries(self) -> list[dict[str, Any]]:
        """Return the n rows by column; None stands for a missing value."""
        rows = self.numbers.T.tolist()
        if np.isnan(self.numbers).any():
            rows = [[None if value != value else value for value in row] for row in rows]
        if not self.texts:
            return [dict(zip(self.names, row, strict=True)) for row in rows]
        texts = zip(*(column.tolist() for column in self.texts.values()), strict=True)
        names = (*self.names, *self.texts)
        both = zip(rows, texts, strict=True)
        return [dict(zip(names, (*row, *(text or None for text in own)), strict=True)) for row, own in both]


@dataclass(frozen=True)
class Scores:
    """The answer for n rows: probability of the positive class, and the class at the model's threshold."""

    probability: list[float]
    predicted: list[int]


@dataclass(frozen=True)
class Servable:
    """A loaded version of the registered model `name`; scoring is safe from any thread."""

    name: str
    version: str
    names: tuple[str, ...]
    text: tuple[str, ...]
    threshold: float
    session: onnxruntime.InferenceSession
    metadata: Model
    example: pd.DataFrame

    @property
    def numeric(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.text)

    def score(self, rows: Rows) -> Scores:
        answered = self.session.run([PROBABILITIES], rows.inputs())[0][:, 1].astype(float)
        probability = np.clip(answered, 0.0, 1.0)  # a sum of float32 votes may exceed 1 by its last digits
        return Scores(probability.tolist(), (probability >= self.threshold).astype(int).tolist())

    def rows_of(self, table: pd.DataFrame) -> Rows:
        """Return a table that fits the signature as arrays."""
        numbers = [table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in self.numeric]
        texts = {name: _texts(table[name]) for name in self.text}
        shaped = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(table))
        return Rows(self.numeric, shaped, texts, len(table))


def _texts(column: pd.Series) -> np.ndarray:
    texts: np.ndarray = column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    return texts


def load(name: str, version: str) -> Servable:
    """Fetch a registered version and make it ready; prove that it answers as its own MLflow model does.

    Raises:
        ModelRefused: it cannot be loaded, or its answers are not finite or not those of its MLflow model.
        MlflowException, OSError: the registry or the artifact store cannot be reached.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="scorer-") as folder:
            return _load(name, version, folder)
    except ModelRefused:
        raise
    except Exception as error:  # whatever a damaged or foreign model trips over: the old one must stay
        if is_unreachable(error):
            raise
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise ModelRefused(f"version {version} cannot be loaded: {type(error).__name__}: {reason}") from error


def _load(name: str, version: str, folder: str) -> Servable:
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=folder))
    metadata = Model.load(str(path))
    if metadata.signature is None:
        raise ModelRefused(f"version {version} has no signature. Log it with one.")
    files = metadata.flavors[FLAVOR]["artifacts"]
    settings = json.loads((path / files["settings"]["path"]).read_text(encoding="utf-8"))
    example = _example(metadata, path)
    asked = _with_gaps(example, settings["text"])
    # before the graph is loaded for us, which then takes the memory that this sets free
    theirs = mlflow.pyfunc.load_model(str(path)).predict(asked)["probability"].to_numpy()
    servable = Servable(
        name=name,
        version=version,
        names=tuple(settings["columns"]),
        text=tuple(settings["text"]),
        threshold=settings["threshold"],
        session=_session(path / files["onnx"]["path"]),
        metadata=metadata,
        example=example,
    )
    _expect_answers(servable, asked, theirs)
    return servable


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # a row takes 0.03 ms: requests beside each other use the cores better than threads within one
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


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
    if not np.isfinite(ours).all():
        raise ModelRefused(f"version {servable.version} answers its input example with what is no number.")
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
