"""Read what runs have published, through the tracking server alone; what cannot be had is said in words."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.uri import append_to_uri_path

from stepkit.store import lineage, tracking

MOST_BYTES = 5_000_000
"""Nothing larger belongs on a page; a file of that size under a known name is no plot and no verdict."""

AT_ONCE = 4


@dataclass
class Reader:
    """Reads artifacts of runs, and keeps a list of what should have been there and was not.

    Attributes:
        lost: for each artifact that its run has published and that cannot be read, one sentence that says so.
    """

    client: MlflowClient
    folder: Path
    lost: list[str] = field(default_factory=list)
    _kept: dict[tuple[str, str], bytes | None] = field(default_factory=dict)

    def runs(self, run_ids: dict[str, str], experiment_id: str) -> dict[str, Run | None]:
        """The runs of an experiment by the names that they have here, asked for at once; None for one that is gone."""
        if not run_ids:
            return {}
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids.values())
        chosen = f"attributes.run_id IN ({listed})"
        found = {run.info.run_id: run for run in self.client.search_runs([experiment_id], chosen)}
        return {name: found.get(run_id) for name, run_id in run_ids.items()}

    def fetch_all(self, wanted: list[tuple[Run, str]]) -> None:
        """Fetch artifacts side by side, so that those who ask for them later need not wait."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: self.fetch(*one), wanted))

    def fetch(self, run: Run | None, name: str) -> bytes | None:
        """What a run has published as `name`; None if it has published nothing of that name, or if it is lost."""
        if run is None or lineage.OUTPUT + name not in run.data.tags:
            return None
        key = (run.info.run_id, name)
        if key not in self._kept:
            self._kept[key] = self._fetched(run, name)
        return self._kept[key]

    def _fetched(self, run: Run, name: str) -> bytes | None:
        tags = run.data.tags
        where = f"{name} of {tags.get(lineage.STEP, 'a step')} (run {run.info.run_id})"
        if int(tags.get(lineage.SIZE + name, "0")) > MOST_BYTES:
            self.lost.append(f"{where} is too large to be shown.")
            return None
        found = None
        with tracking.missing_as():
            found = self._downloaded(run, name)
        if found is None:
            self.lost.append(f"{where} is not in the artifact store any more.")
            return None
        if f"sha256:{hashlib.sha256(found).hexdigest()}" != tags[lineage.OUTPUT + name]:
            self.lost.append(f"{where} is not the file that was published (another sha256), so it is not shown.")
            return None
        return found

    def _downloaded(self, run: Run, name: str) -> bytes:
        own = Path(tempfile.mkdtemp(dir=self.folder))
        # by its place and not by its run, which would be asked for anew each time
        address = append_to_uri_path(run.info.artifact_uri, name)
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(own))).read_bytes()

    def text(self, run: Run | None, name: str) -> str | None:
        found = self.fetch(run, name)
        return None if found is None else found.decode("utf-8", errors="replace")

    def json(self, run: Run | None, name: str) -> Any:
        """What a JSON artifact holds, or None."""
        text = self.text(run, name)
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError as error:
            self.lost.append(f"{name} is not JSON: {error}.")
            return None

    def rows(self, run: Run | None, name: str) -> list[dict[str, str]]:
        """The rows of a CSV artifact, as texts; none if there is none."""
        text = self.text(run, name)
        return [] if text is None else [{**row} for row in csv.DictReader(io.StringIO(text, newline=""))]

    def picture(self, run: Run | None, name: str) -> str:
        """A PNG in base64, or ""."""
        found = self.fetch(run, name)
        return base64.b64encode(found).decode() if found else ""

    def unlisted(self, run: Run | None, name: str) -> str | None:
        """An artifact that is not recorded as an output (a log, a configuration), or None."""
        if run is None:
            return None
        with tracking.missing_as():
            return self._downloaded(run, name).decode("utf-8", errors="replace")
        return None
