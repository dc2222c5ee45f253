"""Reader of published artifacts. It uses only the tracking server, and lists the artifacts that it cannot read."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.uri import append_to_uri_path

from stepkit.store import lineage, tracking

MOST_BYTES = 5_000_000
"""Largest artifact that is read. Plots and verdicts are much smaller."""


@dataclass
class Reader:
    """Reader of artifacts.

    Attributes:
        folder: temporary folder for downloads.
        lost: one sentence for each published artifact that cannot be read.
    """

    client: MlflowClient
    folder: Path
    lost: list[str] = field(default_factory=list)

    def fetch_runs(self, run_ids: dict[str, str], experiment_id: str) -> dict[str, Run | None]:
        """Return the runs of an experiment by the names of their ids, in one request; None for a deleted run."""
        id_list = ", ".join(f"'{run_id}'" for run_id in run_ids.values())
        condition = f"attributes.run_id IN ({id_list})"
        runs = self.client.search_runs([experiment_id], condition) if run_ids else []
        by_id = {run.info.run_id: run for run in runs}
        return {name: by_id.get(run_id) for name, run_id in run_ids.items()}

    def fetch(self, run: Run | None, name: str) -> bytes | None:
        """Return an artifact that a run published; None if it did not publish it or it cannot be read."""
        if run is None or lineage.OUTPUT + name not in run.data.tags:
            return None
        tags = run.data.tags
        artifact = f"{name} of {tags.get(lineage.STEP, 'a step')} (run {run.info.run_id})"
        if int(tags[lineage.SIZE + name]) > MOST_BYTES:
            self.lost.append(f"{artifact} is larger than {MOST_BYTES:,} bytes and is not shown.")
            return None
        content = self._download(run, name)
        if content is None:
            self.lost.append(f"{artifact} is no longer in the artifact store.")
        elif f"sha256:{hashlib.sha256(content).hexdigest()}" != tags[lineage.OUTPUT + name]:
            self.lost.append(f"{artifact} was changed after it was published (sha256 differs) and is not shown.")
            return None
        return content

    def _download(self, run: Run, name: str) -> bytes | None:
        # download_artifacts(run_id=...) would fetch the run again for each artifact
        uri = append_to_uri_path(run.info.artifact_uri, name)
        with tracking.handle_missing():
            folder = tempfile.mkdtemp(dir=self.folder)
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder)).read_bytes()
        return None

    def fetch_json(self, run: Run | None, name: str) -> Any:
        """Return the content of a JSON artifact, or None."""
        content = self.fetch(run, name)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            self.lost.append(f"{name} is not valid JSON: {error}.")
            return None

    def fetch_csv(self, run: Run | None, name: str) -> list[dict[str, str]]:
        """Return the rows of a CSV artifact as text, or an empty list."""
        return list(csv.DictReader(io.StringIO((self.fetch(run, name) or b"").decode(), newline="")))

    def fetch_base64(self, run: Run | None, name: str) -> str:
        """Return an artifact in base64, or ""."""
        return base64.b64encode(self.fetch(run, name) or b"").decode()

    def fetch_text(self, run: Run, name: str) -> str | None:
        """Return an artifact that is not recorded as an output, for example a log, or None."""
        content = self._download(run, name)
        return None if content is None else content.decode("utf-8", errors="replace")
