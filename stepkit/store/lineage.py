"""Who reads from whom: the current run of a step, and the run behind a run that holds an artifact."""

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
"""Tags: sha256 and bytes of each artifact that a run has published."""
MODEL_ID = "model_id"
MODEL_FILES = "model_files"
"""Tags: the model that a run has logged, and the bytes of each of its files (JSON)."""
MODEL_DIGESTS = "model_digests"
"""Tag: the sha256 of each of these files (JSON)."""
DAMAGED = "damaged"
"""Says of a run that an artifact of it was found missing or altered: nobody may rely on it any more."""
SUMMARY = "summary"
ERROR = "error"
PIPELINE = "pipeline_run_id"
DATA_SET = "data_set"
SYNTHETIC = "data_set_synthetic"
"""Tags of each run with a table or a model, and of a version: its data set, and whether no row of it is real."""
BECAUSE = "because."
"""Tags of a pipeline's run and of a version that it registered: why it was run."""

SAMPLE = "sample"

NEWEST_FIRST = ["attributes.end_time DESC", "attributes.start_time DESC"]
_IS_CURRENT = f"tags.{CURRENT} = 'true' and attributes.status = 'FINISHED'"


def list_current_runs(client: MlflowClient, experiment_id: str, step: str) -> list[Run]:
    """Return finished runs of `step` that are marked current, newest first; more than one only for a moment."""
    found = client.search_runs([experiment_id], f"tags.{STEP} = '{step}' and {_IS_CURRENT}", order_by=NEWEST_FIRST)
    return sorted(found, key=_read_mark_time, reverse=True)


def get_current_run(client: MlflowClient, experiment_id: str, step: str) -> Run:
    """Return the newest finished current run of `step`; raise UpstreamMissing, with how to make one."""
    if runs := list_current_runs(client, experiment_id, step):
        return runs[0]
    name = client.get_experiment(experiment_id).name
    steps = sorted({run.data.tags.get(STEP, "") for run in client.search_runs([experiment_id], _IS_CURRENT)})
    if close := difflib.get_close_matches(step, steps):
        meant = " and of ".join(f"'{one}'" for one in close)
        raise UpstreamMissing(
            f"no finished '{step}' run in experiment '{name}', but runs of {meant}. Type the name that you meant."
        )
    raise UpstreamMissing(
        f"no finished '{step}' run in experiment '{name}'. Run that step first, in the same experiment: "
        f'mlflow run . --env-manager local -P hydra_options="main.execute_steps={step}" '
        f"--experiment-name {shlex.quote(name)}"
    )


def mark_current(client: MlflowClient, run_id: str) -> None:
    """Make a finished run the only current one of its step in its experiment.

    Each of several runs that end together first marks itself and then unmarks all but the newest that it sees.
    The last to look sees all marks, so exactly one is left. An older run may become current again, when a pipeline
    reuses it: newest is what was marked last.
    """
    client.set_tag(run_id, CURRENT_SINCE, f"{time.time_ns() // 1_000_000}")
    client.set_tag(run_id, CURRENT, "true")
    run = client.get_run(run_id)
    marked = list_current_runs(client, run.info.experiment_id, run.data.tags[STEP])
    newest = max(marked, key=_read_mark_time, default=run)
    for other in marked:
        if other.info.run_id != newest.info.run_id:
            client.set_tag(other.info.run_id, CURRENT, "false")


def _read_mark_time(run: Run) -> tuple[int, str]:
    return int(run.data.tags.get(CURRENT_SINCE, run.info.end_time or 0)), run.info.run_id


def read_inputs(run: Run) -> dict[str, str]:
    """Artifact address (runs:/ID/NAME) by artifact name, for everything that `run` has read."""
    return {key.removeprefix(INPUT): value for key, value in run.data.tags.items() if key.startswith(INPUT)}


def list_published(run: Run) -> list[str]:
    """The names of the artifacts that a run has published."""
    return sorted(key.removeprefix(OUTPUT) for key in run.data.tags if key.startswith(OUTPUT))


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return a run, or None if the store does not hold it."""
    with handle_missing():
        return client.get_run(run_id)
    return None


def iter_lineage(client: MlflowClient, run_id: str) -> Iterator[Run]:
    """Yield a run and all runs that it reads from, directly or through others, as far as the store holds them."""
    seen: set[str] = set()
    waiting = [run_id]
    while waiting:
        here = waiting.pop(0)
        run = None if here in seen else find_run(client, here)
        seen.add(here)
        if run:
            yield run
            waiting += [parse_run_id(address) for address in read_inputs(run).values()]


def find_upstream(client: MlflowClient, run_id: str, artifact: str) -> str | None:
    """Return the run at or behind `run_id` that published `artifact`, or None."""
    runs = iter_lineage(client, run_id)
    return next((str(run.info.run_id) for run in runs if OUTPUT + artifact in run.data.tags), None)


def make_artifact_uri(run_id: str, artifact: str) -> str:
    return f"runs:/{run_id}/{artifact}"


def parse_run_id(address: str) -> str:
    """The run id in an address such as runs:/ID/data/data_train.csv."""
    return address.removeprefix("runs:/").split("/", 1)[0]


def parse_artifact_name(address: str) -> str:
    """Return the artifact's name in an address (runs:/ID/NAME); raise BadParameter if it names a run only."""
    if name := address.removeprefix("runs:/").partition("/")[2]:
        return name
    raise BadParameter(f"'{address}' names no artifact of that run. Write runs:/ID/NAME.")


def fetch_digest(client: MlflowClient, address: str) -> str:
    """Return "sha256:..." of an artifact as its run recorded it, or the address itself if it recorded none."""
    return str(client.get_run(parse_run_id(address)).data.tags.get(OUTPUT + parse_artifact_name(address), address))


@dataclass(frozen=True)
class DataSet:
    """The data set of a run or a version; the name is "" if it is unknown."""

    name: str = ""
    synthetic: bool = False

    def __str__(self) -> str:
        return f"{self.name or 'unknown'}{' (synthetic)' if self.synthetic else ''}"

    def tags(self) -> dict[str, str]:
        return {DATA_SET: self.name, SYNTHETIC: str(self.synthetic).lower()} if self.name else {}


def read_data_set(tags: dict[str, str]) -> DataSet:
    """Return the data set that tags name; `sample` is synthetic, also where an earlier release did not mark it."""
    name = tags.get(DATA_SET, "")
    return DataSet(name, tags.get(SYNTHETIC, str(name == SAMPLE).lower()) == "true")


def find_data_set(client: MlflowClient, run_id: str) -> DataSet:
    """Return the data set of a run: the one that it names itself, else the nearest run behind it that names one."""
    named = (found for run in iter_lineage(client, run_id) if (found := read_data_set(run.data.tags)).name)
    return next(named, DataSet())
