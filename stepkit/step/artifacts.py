"""The open run of a step: read the artifacts of other steps, publish new ones, record lineage."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.pyfunc import PyFuncModel

from stepkit.errors import ArtifactDamaged, ArtifactMissing, BadParameter
from stepkit.files import compute_sha256
from stepkit.secret_urls import hide_secrets
from stepkit.store import lineage, tracking
from stepkit.store.datasets import to_dataset
from stepkit.store.lineage import DataSet
from stepkit.store.model_files import compare_digests, compute_digests, compute_lock_digest, fetch_model
from stepkit.strict_json import to_json
from stepkit.table import tables
from stepkit.table.columns import COLUMNS_ARTIFACT, Columns, read_columns
from stepkit.table.dates import TIME, describe_parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # loaded only by the steps that draw
    from mlflow.models.model import ModelInfo

log = logging.getLogger("step")


class StepRun:
    """Open run of a step, as its `main` uses it."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str, folder: Path) -> None:
        self.client = client
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.folder = folder
        self._columns: Columns | None = None

    @property
    def columns(self) -> Columns:
        """Columns of the data set, known after `read_table` (in the first step, after `set_columns`)."""
        if self._columns is None:
            raise BadParameter("columns unknown: this step has not read a table yet")
        return self._columns

    @property
    def data_set(self) -> DataSet:
        """Data set of the columns."""
        return DataSet(self.columns.name, self.columns.synthetic)

    def set_columns(self, columns: Columns) -> None:
        """Set the columns of the tables that this step publishes."""
        self._columns = columns

    def get_source(self, step: str, run_id: str = "") -> str:
        """Return the run to read from: `run_id` if given, else the newest current run of `step`."""
        if run_id:
            return run_id
        current_id = lineage.get_current_run(self.client, self.experiment_id, step).info.run_id
        log.info("%s: reading from its current run %s", step, current_id)
        return str(current_id)

    def fetch(self, run_id: str, artifact: str, record: bool = True) -> Path:
        """Download an artifact, verify its sha256 and record it as an input; return its local path.

        Raises:
            ArtifactMissing: the run does not have the artifact.
            ArtifactDamaged: the file differs from the published one.
        """
        uri = lineage.make_artifact_uri(run_id, artifact)
        run = self._get_run(run_id)
        target = self.make_folder(f"inputs/{run_id}")
        with tracking.handle_missing(lambda _: self._note_missing_artifact(run, artifact)):
            path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(target)))
        recorded = run.data.tags.get(lineage.OUTPUT + artifact)
        if recorded and path.is_file() and recorded != f"sha256:{compute_sha256(path)}":
            raise self._note_damage(run, artifact, "differs from the published file (another sha256)")
        if record:
            self.client.set_tag(self.run_id, lineage.INPUT + artifact, uri)
        return path

    def fetch_if_artifact(self, path_or_uri: str) -> str:
        """Return a path unchanged; download an artifact (runs:/ID/NAME) and return its local path."""
        if not path_or_uri.startswith("runs:/"):
            return path_or_uri
        run_id, artifact = lineage.parse_run_id(path_or_uri), lineage.parse_artifact_name(path_or_uri)
        return str(self.fetch(run_id, artifact, record=False))

    def read_table(self, step: str, artifact: str, run_id: str = "", context: str = "input") -> pd.DataFrame:
        """Return a table of an upstream step; log it as an MLflow dataset and remember its columns."""
        source = self.get_source(step, run_id)
        if self._columns is None:
            self._columns = read_columns(self.fetch(source, COLUMNS_ARTIFACT, record=False))
        path = self.fetch(source, artifact)
        table = tables.read_table(path, text=self.columns.text)
        self.log_dataset(table, artifact, compute_sha256(path), lineage.make_artifact_uri(source, artifact), context)
        return table

    def load_model(self, step: str, name: str, run_id: str = "") -> PyFuncModel:
        """Return the model `name` of an upstream run and record it as an input.

        Raises:
            ArtifactMissing: the run did not log this model, or it was deleted.
            ArtifactDamaged: a file of the model differs from the logged one.
        """
        source = self.get_source(step, run_id)
        uri = lineage.make_artifact_uri(source, name)
        with tracking.handle_missing(lambda _: self._note_missing_model(source, name, step)):
            folder = mlflow.artifacts.download_artifacts(uri, dst_path=str(self.make_folder("model")))
            self._verify_model(self._get_run(source), name, Path(folder))
            model: PyFuncModel = mlflow.pyfunc.load_model(folder)
        self.client.set_tag(self.run_id, lineage.INPUT + name, uri)
        return model

    def log_dataset(self, table: pd.DataFrame, name: str, sha256: str, source: str, context: str) -> None:
        """Log `table` as an input of this run that came from `source` (runs:/ID/NAME, URL or path)."""
        dataset = to_dataset(table, name, sha256, source)
        # Steps of two pipelines may log the same table at the same time.
        tracking.retry_races(lambda: mlflow.log_input(dataset, context=context))

    def publish_table(self, table: pd.DataFrame, name: str, file: Path | None = None, about: str = "") -> None:
        """Publish a table as the artifact `name` (.csv or .parquet), together with the description of its columns.

        If `file` already contains the table, it is published byte for byte instead of being written again. `about`
        describes the table for people, in a tag.
        """
        path = file or self._make_output_path(name)
        if not file:
            tables.write_table(table, path)
        self.publish_file(path, name)
        self.publish_text(self.columns.to_yaml(), COLUMNS_ARTIFACT)
        self._set_tags({**self.data_set.to_tags(), **({f"description.{name}": about} if about else {})})
        mlflow.log_metric(f"rows.{Path(name).stem}", len(table))

    def publish_file(self, path: Path, name: str) -> None:
        """Upload `path` as the artifact `name` and record its sha256."""
        parent = str(Path(name).parent)
        if path.name != Path(name).name:
            path = Path(shutil.copyfile(path, self.folder / Path(name).name))
        self.client.log_artifact(self.run_id, str(path), None if parent == "." else parent)
        digest = f"sha256:{compute_sha256(path)}"
        self._set_tags({lineage.OUTPUT + name: digest, lineage.SIZE + name: path.stat().st_size})

    def record_model(self, info: ModelInfo) -> None:
        """Record the model that this run has logged, the size and sha256 of its files, and the lock, as tags."""
        folder = fetch_model(self.client, info.model_id, self.make_folder("recorded"))
        digests = compute_digests(folder)
        sizes = {name: (folder / name).stat().st_size for name in digests}
        model = {"model_uri": info.model_uri, lineage.MODEL_ID: info.model_id}
        files = {lineage.MODEL_FILES: json.dumps(sizes), lineage.MODEL_DIGESTS: json.dumps(digests)}
        lock = {lineage.LOCK_DIGEST: compute_lock_digest()}
        self._set_tags({**model, **files, **lock, **self.data_set.to_tags()})

    def publish_text(self, text: str, name: str) -> None:
        """Publish a text as the artifact `name`."""
        path = self._make_output_path(name)
        path.write_text(text, encoding="utf-8")
        self.publish_file(path, name)

    def publish_json(self, value: Any, name: str) -> None:
        """Publish a value as JSON."""
        self.publish_text(to_json(value), name)

    def publish_figure(self, figure: Figure, name: str) -> None:
        """Publish a figure as an image; the suffix of `name` selects the format."""
        path = self._make_output_path(name)
        # A layout engine leaves no margin to cut off, and the search for one would take a sixth of the time.
        figure.savefig(path, dpi=120, bbox_inches=None if figure.get_layout_engine() else "tight")
        self.publish_file(path, name)

    def record_split(self, parts: dict[str, pd.DataFrame], split: str) -> None:
        """Record the dates of the parts of a split by time, as a tag; do nothing for another split."""
        if split == TIME:
            self._set_tags({lineage.SPLIT_DATES: to_json(describe_parts(parts, self.columns))})

    def log_summary(self, summary: str) -> None:
        """Log the step's result in one line; the pipeline prints it next to the step's name."""
        log.info(summary)
        self.client.set_tag(self.run_id, lineage.SUMMARY, summary)

    def make_folder(self, name: str) -> Path:
        """Create a folder inside the step's temporary folder, so that a failed download leaves nothing behind."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _make_output_path(self, name: str) -> Path:
        """Return the path to which an artifact is written before the upload."""
        return self.make_folder(str(Path("outputs", name).parent)) / Path(name).name

    def _set_tags(self, tags: dict[str, object]) -> None:
        self.client.log_batch(self.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def _get_run(self, run_id: str) -> Run:
        store = hide_secrets(mlflow.get_tracking_uri())
        with tracking.handle_missing(lambda error: ArtifactMissing(f"run {run_id}: not found in {store}: {error}")):
            return self.client.get_run(run_id)

    def _note_missing_artifact(self, run: Run, artifact: str) -> ArtifactMissing:
        """Tag a run as damaged because an artifact is missing; return the error to raise."""
        uri, published = lineage.make_artifact_uri(run.info.run_id, artifact), lineage.list_published(run)
        if published and artifact not in published:
            return ArtifactMissing(f"{uri}: not published; its run published {', '.join(published)}.")
        if published:
            self.client.set_tag(run.info.run_id, lineage.DAMAGED, artifact)
        step = run.data.tags.get(lineage.STEP, "its step")
        return ArtifactMissing(f"{uri}: missing in the artifact store. Run {step} again.")

    def _note_missing_model(self, run_id: str, name: str, step: str) -> ArtifactMissing:
        """Tag a run as damaged because its model is missing; return the error to raise."""
        uri, run = lineage.make_artifact_uri(run_id, name), self._get_run(run_id)
        if lineage.MODEL_ID in run.data.tags:
            with tracking.handle_missing():  # the model may have been deleted
                logged = self.client.get_logged_model(run.data.tags[lineage.MODEL_ID]).name
                if logged != name:
                    return ArtifactMissing(f"{uri}: no such model; its run logged '{logged}'.")
            self.client.set_tag(run_id, lineage.DAMAGED, name)
        return ArtifactMissing(f"{uri}: model missing in the artifact store. Run {step} again.")

    def _verify_model(self, run: Run, name: str, folder: Path) -> None:
        recorded = json.loads(run.data.tags.get(lineage.MODEL_DIGESTS, "{}"))
        if changed := compare_digests(recorded, compute_digests(folder)) if recorded else []:
            raise self._note_damage(run, name, f"differs from the logged model: {', '.join(changed[:5])}")

    def _note_damage(self, run: Run, name: str, problem: str) -> ArtifactDamaged:
        """Tag a run as damaged because an artifact was changed; return the error to raise."""
        self.client.set_tag(run.info.run_id, lineage.DAMAGED, name)
        uri, step = lineage.make_artifact_uri(run.info.run_id, name), run.data.tags.get(lineage.STEP, "its step")
        return ArtifactDamaged(f"{uri}: {problem}. Run {step} again.")
