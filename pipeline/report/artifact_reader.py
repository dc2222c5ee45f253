"""Read what runs have published, through the tracking server alone, and list what is missing."""

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
"""Nothing larger belongs on a page; a file of that size is neither a plot nor a verdict."""


@dataclass
class Reader:
    """Reads artifacts of runs.

    Attributes:
        lost: for each artifact that its run has published and that cannot be read, one sentence.
    """

    client: MlflowClient
    folder: Path
    lost: list[str] = field(default_factory=list)

    def runs(self, run_ids: dict[str, str], experiment_id: str) -> dict[str, Run | None]:
        """The runs of an experiment by the names that they have here, in one request; None for a deleted one."""
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids.values())
        chosen = f"attributes.run_id IN ({listed})"
        found = self.client.search_runs([experiment_id], chosen) if run_ids else []
        return {name: next((run for run in found if run.info.run_id == one), None) for name, one in run_ids.items()}

    def fetch(self, run: Run | None, name: str) -> bytes | None:
        """The artifact that a run has published as `name`; None if there is none, or if it is lost."""
        if run is None or lineage.OUTPUT + name not in run.data.tags:
            return None
        tags = run.data.tags
        where = f"{name} of {tags.get(lineage.STEP, 'a step')} (run {run.info.run_id})"
        if int(tags[lineage.SIZE + name]) > MOST_BYTES:
            self.lost.append(f"{where} is too large to be shown.")
            return None
        content = self._downloaded(run, name)
        if content is None:
            self.lost.append(f"{where} is not in the artifact store any more.")
        elif f"sha256:{hashlib.sha256(content).hexdigest()}" != tags[lineage.OUTPUT + name]:
            self.lost.append(f"{where} is not the file that was published (another sha256), so it is not shown.")
            return None
        return content

    def _downloaded(self, run: Run, name: str) -> bytes | None:
        # by its place and not by its run, which would be asked for again each time
        address = append_to_uri_path(run.info.artifact_uri, name)
        with tracking.handle_missing():
            folder = tempfile.mkdtemp(dir=self.folder)
            return Path(mlflow.artifacts.download_artifacts(address, dst_path=folder)).read_bytes()
        return None

    def json(self, run: Run | None, name: str) -> Any:
        """The content of a JSON artifact, or None."""
        content = self.fetch(run, name)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            self.lost.append(f"{name} is not JSON: {error}.")
            return None

    def rows(self, run: Run | None, name: str) -> list[dict[str, str]]:
        """The rows of a CSV artifact, as texts; none if there is none."""
        return list(csv.DictReader(io.StringIO((self.fetch(run, name) or b"").decode(), newline="")))

    def picture(self, run: Run | None, name: str) -> str:
        """A PNG in base64, or ""."""
        return base64.b64encode(self.fetch(run, name) or b"").decode()

    def unlisted(self, run: Run, name: str) -> str | None:
        """An artifact that is not recorded as an output (a log, a configuration), or None."""
        content = self._downloaded(run, name)
        return None if content is None else content.decode("utf-8", errors="replace")
