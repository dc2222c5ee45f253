"""MLflow datasets for tables: name, digest and source, which MLflow shows with the run that read the table."""

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
"""Hex digits of the sha256 that form the dataset's digest; MLflow accepts at most 36 characters."""


class RunArtifactSource(DatasetSource):  # type: ignore[misc]  # MLflow does not type its base class
    """Artifact of a run (runs:/ID/NAME) as a dataset source; MLflow has sources for stores, but not for runs."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @staticmethod
    def _get_source_type() -> str:
        return "runs"

    def load(self, dst_path: str | None = None) -> str:
        """Download the artifact and return its local path."""
        return str(mlflow.artifacts.download_artifacts(self.uri, dst_path=dst_path))

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith("runs:/")

    @classmethod
    def _resolve(cls, raw_source: str) -> Self:
        return cls(raw_source)

    def to_dict(self) -> dict[str, str]:
        """Return the fields, as MLflow stores them."""
        return {"uri": self.uri}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> Self:
        """Return the source with these fields."""
        return cls(source_dict["uri"])


register_dataset_source(RunArtifactSource)  # type: ignore[arg-type]  # MLflow expects a class but declares an instance


class TableDataset(PandasDataset):  # type: ignore[misc]  # MLflow does not type its base class
    """Pandas dataset whose schema is derived from the column types.

    MLflow would search every value for missing ones: a second for 30,000 rows, minutes for millions.
    """

    @property
    def schema(self) -> Schema:
        """Columns with their MLflow types."""
        columns: list[ColSpec | TensorSpec] = [
            ColSpec(_to_data_type(dtype), str(name), required=False) for name, dtype in self.df.dtypes.items()
        ]
        return Schema(columns)

    @property
    def profile(self) -> dict[str, int]:
        """Numbers of rows and of values."""
        return {"num_rows": len(self.df), "num_elements": int(self.df.size)}


def _to_data_type(dtype: Any) -> DataType:
    types = {"b": DataType.boolean, "i": DataType.long, "u": DataType.long, "f": DataType.double}
    return types.get(dtype.kind, DataType.string)


def to_dataset(table: pd.DataFrame, name: str, sha256: str, source: str) -> TableDataset:
    """Return the dataset `name` for `table`, which came from `source` (runs:/ID/NAME, URL or path)."""
    try:
        with warnings.catch_warnings():
            # MLflow registers the source of local files twice and warns about that for every path.
            warnings.simplefilter("ignore", UserWarning)
            resolved = resolve_dataset_source(source)
    except MlflowException:
        resolved = RunArtifactSource(source)  # record the source even if MLflow does not know this kind of URL
    return TableDataset(table, source=resolved, name=name, digest=sha256[:DIGEST_LENGTH])
