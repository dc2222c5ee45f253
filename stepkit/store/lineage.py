"""Lineage: the current run of each step, and the upstream runs from which a run read its artifacts."""

from __future__ import annotations

import difflib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run

from stepkit.errors import BadParameter, UpstreamMissing
from stepkit.store.tracking import handle_missing

STEP = "step"
CURRENT = "current"
CURRENT_SINCE = "current_since"
INPUT = "input."
OUTPUT = "output."
SIZE = "size."
"""Tag prefixes: inputs of a run, and sha256 and size in bytes of each artifact that it published."""
MODEL_ID = "model_id"
MODEL_FILES = "model_files"
"""Tags: the model that a run logged, and the size in bytes of each of its files (JSON)."""
MODEL_DIGESTS = "model_digests"
"""Tag: the sha256 of each file of the model (JSON)."""
LOCK_DIGEST = "lock_digest"
"""Tag of a run with a model and of a version: sha256 of the lock of the packages that trained it."""
SWAP = "swap"
"""Tag of a version: the number of answers on record that it would change."""
WITHOUT_PROTECTED = "without_protected.onnx"
"""Artifact of a model step: the graph of the same model, fitted without the protected columns."""
DAMAGED = "damaged"
"""Tag of a run with a missing or altered artifact; such a run is never reused."""
SUMMARY = "summary"
ERROR = "error"
PIPELINE = "pipeline_run_id"
DATA_SET = "data_set"
SYNTHETIC = "data_set_synthetic"
"""Tags of a version and of each run with a table or a model: its data set, and "true" if the data are synthetic."""
OTHER_CLASSES = "other_class_rows"
"""Tag of preprocess: number and values of the rows that it left out because their target belongs to neither class."""
SPLIT_DATES = "split_dates"
"""Tag of a run that splits by time: rows, rows without a date, first and last date of each part (JSON)."""
BECAUSE = "because."
"""Tag prefix of a pipeline run and of the version that it registered: the reason for the run."""

SAMPLE = "sample"

NEWEST_FIRST = ["attributes.end_time DESC", "attributes.start_time DESC"]
_IS_CURRENT = f"tags.{CURRENT} = 'true' and attributes.status = 'FINISHED'"


def list_current_runs(client: MlflowClient, experiment_id: str, step: str) -> list[Run]:
    """Return the finished runs of `step` that are marked current, newest first; normally one."""
    runs = client.search_runs([experiment_id], f"tags.{STEP} = '{step}' and {_IS_CURRENT}", order_by=NEWEST_FIRST)
    return sorted(runs, key=_read_mark_time, reverse=True)


def get_current_run(client: MlflowClient, experiment_id: str, step: str) -> Run:
    """Return the newest finished current run of `step`; raise UpstreamMissing, with the command that creates one."""
    if runs := list_current_runs(client, experiment_id, step):
        return runs[0]
    name = client.get_experiment(experiment_id).name
    steps = sorted({run.data.tags.get(STEP, "") for run in client.search_runs([experiment_id], _IS_CURRENT)})
    if close := difflib.get_close_matches(step, steps):
        names = " and ".join(f"'{similar}'" for similar in close)
        raise UpstreamMissing(
            f"no finished '{step}' run in experiment '{name}', but runs of {names}. Correct the name of the step."
        )
    raise UpstreamMissing(
        f"no finished '{step}' run in experiment '{name}'. Run that step first, in the same experiment: "
        f'mlflow run . --env-manager local -P hydra_options="main.execute_steps={step}" '
        f"--experiment-name {shlex.quote(name)}"
    )


def mark_current(client: MlflowClient, run_id: str) -> None:
    """Make a finished run the only current one of its step in its experiment.

    Runs that end at the same time each mark themselves first and then unmark all runs except the newest. The last one
    sees all marks, so exactly one mark remains. The newest run is the one that was marked last, because a pipeline that
    reuses an older run makes it current again.
    """
    client.set_tag(run_id, CURRENT_SINCE, f"{time.time_ns() // 1_000_000}")
    client.set_tag(run_id, CURRENT, "true")
    run = client.get_run(run_id)
    marked = list_current_runs(client, run.info.experiment_id, run.data.tags[STEP])
    newest = max(marked, key=_read_mark_time, default=run)
    for marked_run in marked:
        if marked_run.info.run_id != newest.info.run_id:
            client.set_tag(marked_run.info.run_id, CURRENT, "false")


def _read_mark_time(run: Run) -> tuple[int, str]:
    return int(run.data.tags.get(CURRENT_SINCE, run.info.end_time or 0)), run.info.run_id


def read_inputs(run: Run) -> dict[str, str]:
    """Return the URI (runs:/ID/NAME) of each artifact that `run` has read, by name."""
    return {key.removeprefix(INPUT): value for key, value in run.data.tags.items() if key.startswith(INPUT)}


def list_published(run: Run) -> list[str]:
    """Return the names of the artifacts that a run has published."""
    return sorted(key.removeprefix(OUTPUT) for key in run.data.tags if key.startswith(OUTPUT))


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return a run, or None if the store does not contain it."""
    with handle_missing():
        return client.get_run(run_id)
    return None


def iter_lineage(client: MlflowClient, run_id: str) -> Iterator[Run]:
    """Yield a run and all its upstream runs, direct and indirect, as far as the store contains them."""
    visited: set[str] = set()
    waiting = [run_id]
    while waiting:
        current_id = waiting.pop(0)
        run = None if current_id in visited else find_run(client, current_id)
        visited.add(current_id)
        if run:
            yield run
            waiting += [parse_run_id(uri) for uri in read_inputs(run).values()]


def find_upstream(client: MlflowClient, run_id: str, artifact: str) -> str | None:
    """Return the id of the run, `run_id` itself or upstream of it, that published `artifact`, or None."""
    runs = iter_lineage(client, run_id)
    return next((str(run.info.run_id) for run in runs if OUTPUT + artifact in run.data.tags), None)


def make_artifact_uri(run_id: str, artifact: str) -> str:
    """Return the URI of an artifact (runs:/ID/NAME)."""
    return f"runs:/{run_id}/{artifact}"


def parse_run_id(uri: str) -> str:
    """Return the run id in the URI of an artifact, such as runs:/ID/data/data_train.csv."""
    return uri.removeprefix("runs:/").split("/", 1)[0]


def parse_artifact_name(uri: str) -> str:
    """Return the artifact's name in a URI (runs:/ID/NAME); raise BadParameter if it names only a run."""
    if name := uri.removeprefix("runs:/").partition("/")[2]:
        return name
    raise BadParameter(f"'{uri}' names no artifact of that run. Write runs:/ID/NAME.")


def fetch_digest(client: MlflowClient, uri: str) -> str:
    """Return "sha256:..." of an artifact as recorded by its run, or the URI itself if none was recorded."""
    return str(client.get_run(parse_run_id(uri)).data.tags.get(OUTPUT + parse_artifact_name(uri), uri))


@dataclass(frozen=True)
class DataSet:
    """Data set of a run or a version; the name is "" if unknown."""

    name: str = ""
    synthetic: bool = False

    def __str__(self) -> str:
        return f"{self.name or 'unknown'}{' (synthetic)' if self.synthetic else ''}"

    def to_tags(self) -> dict[str, str]:
        """Return the tags that record the data set; none if its name is unknown."""
        return {DATA_SET: self.name, SYNTHETIC: str(self.synthetic).lower()} if self.name else {}


def read_data_set(tags: dict[str, str]) -> DataSet:
    """Return the data set in the tags; `sample` counts as synthetic even if an earlier release did not mark it."""
    name = tags.get(DATA_SET, "")
    return DataSet(name, tags.get(SYNTHETIC, str(name == SAMPLE).lower()) == "true")


def find_data_set(client: MlflowClient, run_id: str) -> DataSet:
    """Return the data set in the tags of a run, else of its nearest upstream run that has one."""
    data_sets = (read_data_set(run.data.tags) for run in iter_lineage(client, run_id))
    return next((data_set for data_set in data_sets if data_set.name), DataSet())
