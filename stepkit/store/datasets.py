"""A table as an MLflow dataset: name, digest and source, shown with the run that read it."""

from __future__ import annotations

import warnings
from typing import Any, Self

import mlflow
import pandas as pd
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source, resolve_dataset_source
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.exceptions import MlflowException
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

DIGEST_LENGTH = 16
"""Hex digits of the sha256 that stand as the dataset's digest; MLflow takes 36 characters at most."""


class RunArtifactSource(DatasetSource):  # type: ignore[misc]  # MLflow does not type its base class
    """An artifact of a run (runs:/ID/NAME); MLflow has dataset sources for stores, but none for runs."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @staticmethod
    def _get_source_type() -> str:
        return "runs"

    def load(self, dst_path: str | None = None) -> str:
        return str(mlflow.artifacts.download_artifacts(self.uri, dst_path=dst_path))

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith("runs:/")

    @classmethod
    def _resolve(cls, raw_source: str) -> Self:
        return cls(raw_source)

    def to_dict(self) -> dict[str, str]:
        return {"uri": self.uri}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> Self:
        return cls(source_dict["uri"])


register_dataset_source(RunArtifactSource)  # type: ignore[arg-type]  # MLflow takes the class, and says instance


class TableDataset(PandasDataset):  # type: ignore[misc]  # MLflow does not type its base class
    """A pandas dataset whose schema is read off the column types.

    MLflow's own looks at every value for gaps: a second for 30,000 rows, minutes for millions.
    """

    @property
    def schema(self) -> Schema:
        columns: list[ColSpec | TensorSpec] = [
            ColSpec(_to_data_type(dtype), str(name), required=False) for name, dtype in self.df.dtypes.items()
        ]
        return Schema(columns)

    @property
    def profile(self) -> dict[str, int]:
        return {"num_rows": len(self.df), "num_elements": int(self.df.size)}


def _to_data_type(dtype: Any) -> DataType:
    types = {"b": DataType.boolean, "i": DataType.long, "u": DataType.long, "f": DataType.double}
    return types.get(dtype.kind, DataType.string)


def to_dataset(table: pd.DataFrame, name: str, sha256: str, source: str) -> TableDataset:
    """Describe `table` (n rows) as the dataset `name` that came from `source` (runs:/ID/NAME, URL or path)."""
    try:
        with warnings.catch_warnings():
            # MLflow registers the source of local files twice, and says so for every path
            warnings.simplefilter("ignore", UserWarning)
            resolved = resolve_dataset_source(source)
    except MlflowException:
        resolved = RunArtifactSource(source)  # an address of a kind that MLflow does not know is still worth keeping
    return TableDataset(table, source=resolved, name=name, digest=sha256[:DIGEST_LENGTH])
