"""A table as an MLflow dataset: name, digest and source, shown with the run that read it."""

from __future__ import annotations

import warnings
from typing import Any, Self

import mlflow
import pandas as pd
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source, resolve_dataset_source
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.exceptions import MlflowException

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


def as_dataset(table: pd.DataFrame, name: str, sha256: str, source: str) -> PandasDataset:
    """Describe `table` (n rows) as the dataset `name` that came from `source` (runs:/ID/NAME, URL or path)."""
    try:
        resolved = resolve_dataset_source(source)
    except MlflowException:
        resolved = RunArtifactSource(source)  # an address of a kind that MLflow does not know is still worth keeping
    with warnings.catch_warnings():
        # MLflow hints that integer columns cannot hold missing values; the model's own signature is of doubles
        warnings.simplefilter("ignore", UserWarning)
        return from_pandas(table, source=resolved, name=name, digest=sha256[:DIGEST_LENGTH])
