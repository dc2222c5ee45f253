"""What a step reads and publishes while its run is open; every hand-off between steps goes through here."""

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
from stepkit.secret_urls import hide_secrets
from stepkit.store import lineage, tracking
from stepkit.store.datasets import to_dataset
from stepkit.store.lineage import DataSet
from stepkit.store.model_files import compare_digests, compute_digests, fetch_model
from stepkit.strict_json import to_json
from stepkit.table import tables
from stepkit.table.columns import COLUMNS_ARTIFACT, Columns, read_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # only the steps that draw load it
    from mlflow.models.model import ModelInfo

log = logging.getLogger("step")


class StepRun:
    """What a step's `main` holds while its run is open."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str, folder: Path) -> None:
        self.client = client
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.folder = folder
        self._columns: Columns | None = None

    @property
    def columns(self) -> Columns:
        """The data set's columns, known once a table was read (or described, in the first step)."""
        if self._columns is None:
            raise BadParameter("no table was read yet, so its columns are not known")
        return self._columns

    @property
    def data_set(self) -> DataSet:
        return DataSet(self.columns.name, self.columns.synthetic)

    def set_columns(self, columns: Columns) -> None:
        """Set the columns of the tables that this step publishes."""
        self._columns = columns

    def get_source(self, step: str, run_id: str = "") -> str:
        """Return the run to read from: the exact one if given, else the newest current one of `step`."""
        if run_id:
            return run_id
        found = lineage.get_current_run(self.client, self.experiment_id, step).info.run_id
        log.info("reading the current run of %s: %s", step, found)
        return str(found)

    def fetch(self, run_id: str, artifact: str, record: bool = True) -> Path:
        """Download an artifact as it was published, recorded as an input; raise ArtifactMissing, ArtifactDamaged."""
        address = lineage.make_artifact_uri(run_id, artifact)
        run = self._get_run(run_id)
        target = self.make_folder(f"inputs/{run_id}")
        with tracking.handle_missing(lambda _: self._note_missing_artifact(run, artifact)):
            path = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(target)))
        recorded = run.data.tags.get(lineage.OUTPUT + artifact)
        if recorded and path.is_file() and recorded != f"sha256:{tables.compute_sha256(path)}":
            raise self._note_damage(run, artifact, "the file that was published (another sha256)")
        if record:
            self.client.set_tag(self.run_id, lineage.INPUT + artifact, address)
        return path

    def fetch_if_artifact(self, place: str) -> str:
        """Return the path of a file that is named by its path, or by an artifact's address (runs:/ID/file)."""
        if not place.startswith("runs:/"):
            return place
        return str(self.fetch(lineage.parse_run_id(place), lineage.parse_artifact_name(place), record=False))

    def read_table(self, step: str, artifact: str, run_id: str = "", context: str = "input") -> pd.DataFrame:
        """Fetch and read a table of an upstream step; log it as an MLflow dataset and learn its columns."""
        source = self.get_source(step, run_id)
        if self._columns is None:
            self._columns = read_columns(self.fetch(source, COLUMNS_ARTIFACT, record=False))
        path = self.fetch(source, artifact)
        table = tables.read_table(path, text=self.columns.text)
        self.log_dataset(
            table, artifact, tables.compute_sha256(path), lineage.make_artifact_uri(source, artifact), context
        )
        return table

    def load_model(self, step: str, name: str, run_id: str = "") -> PyFuncModel:
        """Load the model `name` of an upstream run, recorded as an input; raise ArtifactMissing, ArtifactDamaged."""
        source = self.get_source(step, run_id)
        address = lineage.make_artifact_uri(source, name)
        with tracking.handle_missing(lambda _: self._note_missing_model(source, name, step)):
            folder = mlflow.artifacts.download_artifacts(address, dst_path=str(self.make_folder("model")))
            self._verify_model(self._get_run(source), name, Path(folder))
            model: PyFuncModel = mlflow.pyfunc.load_model(folder)
        self.client.set_tag(self.run_id, lineage.INPUT + name, address)
        return model

    def log_dataset(self, table: pd.DataFrame, name: str, sha256: str, source: str, context: str) -> None:
        """Log `table` as an input of this run, with `source` as where it came from."""
        dataset = to_dataset(table, name, sha256, source)
        # steps of two pipelines may log the same table at the same moment
        tracking.retry_races(lambda: mlflow.log_input(dataset, context=context))

    def publish_table(self, table: pd.DataFrame, name: str, file: Path | None = None, about: str = "") -> None:
        """Publish a table as the artifact `name` (.csv or .parquet) together with the description of its columns.

        Args:
            about: what the table is, for people; kept as a tag.
            file: the table as it came; given, it is published byte for byte instead of being written again.
        """
        path = file or self._make_output_path(name)
        if not file:
            tables.write_table(table, path)
        self.publish_file(path, name)
        self.publish_text(self.columns.to_yaml(), COLUMNS_ARTIFACT)
        self._set_tags({**self.data_set.tags(), **({f"description.{name}": about} if about else {})})
        mlflow.log_metric(f"rows.{Path(name).stem}", len(table))

    def publish_file(self, path: Path, name: str) -> None:
        """Upload `path` as the artifact `name` and record its sha256."""
        parent = str(Path(name).parent)
        if path.name != Path(name).name:
            path = Path(shutil.copyfile(path, self.folder / Path(name).name))
        self.client.log_artifact(self.run_id, str(path), None if parent == "." else parent)
        digest = f"sha256:{tables.compute_sha256(path)}"
        self._set_tags({lineage.OUTPUT + name: digest, lineage.SIZE + name: path.stat().st_size})

    def record_model(self, info: ModelInfo) -> None:
        """Note on this run which model it has logged, and the size and sha256 of each file of it."""
        folder = fetch_model(self.client, info.model_id, self.make_folder("recorded"))
        digests = compute_digests(folder)
        sizes = {name: (folder / name).stat().st_size for name in digests}
        files = {lineage.MODEL_FILES: json.dumps(sizes), lineage.MODEL_DIGESTS: json.dumps(digests)}
        self._set_tags({"model_uri": info.model_uri, lineage.MODEL_ID: info.model_id, **files, **self.data_set.tags()})

    def publish_text(self, text: str, name: str) -> None:
        path = self._make_output_path(name)
        path.write_text(text, encoding="utf-8")
        self.publish_file(path, name)

    def publish_json(self, value: Any, name: str) -> None:
        self.publish_text(to_json(value), name)

    def publish_figure(self, figure: Figure, name: str) -> None:
        path = self._make_output_path(name)
        figure.savefig(path, dpi=120, bbox_inches="tight")
        self.publish_file(path, name)

    def log_summary(self, summary: str) -> None:
        """Log the one line that sums this step up; the pipeline shows it beside the step's name."""
        log.info(summary)
        self.client.set_tag(self.run_id, lineage.SUMMARY, summary)

    def make_folder(self, what: str) -> Path:
        """A folder that goes with the step's own, so that nothing is left of a download that fails."""
        folder = self.folder / what
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _make_output_path(self, name: str) -> Path:
        """Return where an artifact is written before it is uploaded."""
        return self.make_folder(str(Path("outputs", name).parent)) / Path(name).name

    def _set_tags(self, tags: dict[str, object]) -> None:
        self.client.log_batch(self.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def _get_run(self, run_id: str) -> Run:
        where = hide_secrets(mlflow.get_tracking_uri())
        with tracking.handle_missing(lambda error: ArtifactMissing(f"run {run_id} is not on {where}: {error}")):
            return self.client.get_run(run_id)

    def _note_missing_artifact(self, run: Run, artifact: str) -> ArtifactMissing:
        """Note that an artifact of a run is missing; return the error to raise."""
        address, published = lineage.make_artifact_uri(run.info.run_id, artifact), lineage.list_published(run)
        if published and artifact not in published:
            return ArtifactMissing(f"{address}: its run published {', '.join(published)}.")
        if published:
            self.client.set_tag(run.info.run_id, lineage.DAMAGED, artifact)
        step = run.data.tags.get(lineage.STEP, "its step")
        return ArtifactMissing(f"{address} is not in the artifact store. Run {step} again.")

    def _note_missing_model(self, run_id: str, name: str, step: str) -> ArtifactMissing:
        """Note that a model of a run is missing; return the error to raise."""
        address, run = lineage.make_artifact_uri(run_id, name), self._get_run(run_id)
        if lineage.MODEL_ID in run.data.tags:
            with tracking.handle_missing():  # its model may have been deleted
                logged = self.client.get_logged_model(run.data.tags[lineage.MODEL_ID]).name
                if logged != name:
                    return ArtifactMissing(f"no model at {address}: its run logged '{logged}'.")
            self.client.set_tag(run_id, lineage.DAMAGED, name)
        return ArtifactMissing(f"no model at {address}. Run {step} again.")

    def _verify_model(self, run: Run, name: str, folder: Path) -> None:
        recorded = json.loads(run.data.tags.get(lineage.MODEL_DIGESTS, "{}"))
        if changed := compare_digests(recorded, compute_digests(folder)) if recorded else []:
            raise self._note_damage(run, name, f"the model that was logged: {', '.join(changed[:5])}")

    def _note_damage(self, run: Run, name: str, published: str) -> ArtifactDamaged:
        """Note that an artifact of a run is not what it published; return the error to raise."""
        self.client.set_tag(run.info.run_id, lineage.DAMAGED, name)
        address, step = lineage.make_artifact_uri(run.info.run_id, name), run.data.tags.get(lineage.STEP, "its step")
        return ArtifactDamaged(f"{address} is not {published}. Run {step} again.")
