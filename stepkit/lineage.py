"""Who reads from whom: the current run of a step, and the run behind a run that holds an artifact."""

from __future__ import annotations

import difflib
import json
import shlex
import time

from mlflow import MlflowClient
from mlflow.entities import Run

from stepkit.errors import BadParameter, UpstreamMissing
from stepkit.tracking import missing_as

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
DAMAGED = "damaged"
"""Says of a run that an artifact of it was found missing or altered: nobody may rely on it any more."""
SUMMARY = "summary"
ERROR = "error"
PIPELINE = "pipeline_run_id"
DATA_SET = "data_set"
BECAUSE = "because."
"""Tags of a pipeline's run and of a version that it registered: why it was run."""

NEWEST_FIRST = ["attributes.end_time DESC", "attributes.start_time DESC"]


def current_runs(client: MlflowClient, experiment_id: str, step: str) -> list[Run]:
    """Finished runs of `step` that are marked current, newest first; more than one only for a moment."""
    chosen = f"tags.{STEP} = '{step}' and tags.{CURRENT} = 'true' and attributes.status = 'FINISHED'"
    found = list(client.search_runs([experiment_id], chosen, order_by=NEWEST_FIRST))
    return sorted(found, key=_marked_at, reverse=True)


def current_run(client: MlflowClient, experiment_id: str, step: str) -> Run:
    """Return the newest finished current run of `step`.

    Raises:
        UpstreamMissing: the experiment has none; the message says how to make one.
    """
    runs = current_runs(client, experiment_id, step)
    if not runs:
        name = client.get_experiment(experiment_id).name
        if close := difflib.get_close_matches(step, steps_of(client, experiment_id)):
            meant = " and of ".join(f"'{one}'" for one in close)
            raise UpstreamMissing(
                f"no finished '{step}' run in experiment '{name}', but runs of {meant}. Type the name that you meant."
            )
        raise UpstreamMissing(
            f"no finished '{step}' run in experiment '{name}'. Run that step first, in the same experiment: "
            f'mlflow run . --env-manager local -P hydra_options="main.execute_steps={step}" '
            f"--experiment-name {shlex.quote(name)}"
        )
    return runs[0]


def steps_of(client: MlflowClient, experiment_id: str) -> list[str]:
    """Return the steps of which an experiment has a finished current run."""
    chosen = f"tags.{CURRENT} = 'true' and attributes.status = 'FINISHED'"
    return sorted({run.data.tags[STEP] for run in client.search_runs([experiment_id], chosen) if STEP in run.data.tags})


def mark_current(client: MlflowClient, run_id: str) -> None:
    """Make a finished run the only current one of its step in its experiment.

    Each of several runs that end together first marks itself and then unmarks all but the newest that it sees.
    The last to look sees all marks, so exactly one is left. An older run may become current again, when a pipeline
    reuses it: newest is what was marked last.
    """
    client.set_tag(run_id, CURRENT_SINCE, f"{time.time_ns() // 1_000_000}")
    client.set_tag(run_id, CURRENT, "true")
    run = client.get_run(run_id)
    marked = current_runs(client, run.info.experiment_id, run.data.tags[STEP])
    newest = max(marked, key=_marked_at, default=run)
    for other in marked:
        if other.info.run_id != newest.info.run_id:
            client.set_tag(other.info.run_id, CURRENT, "false")


def _marked_at(run: Run) -> tuple[int, str]:
    return int(run.data.tags.get(CURRENT_SINCE, run.info.end_time or 0)), run.info.run_id


def inputs_of(run: Run) -> dict[str, str]:
    """Artifact address (runs:/ID/NAME) by artifact name, for everything that `run` has read."""
    return {key.removeprefix(INPUT): value for key, value in run.data.tags.items() if key.startswith(INPUT)}


def published_by(run: Run) -> list[str]:
    """The names of the artifacts that a run has published."""
    return sorted(key.removeprefix(OUTPUT) for key in run.data.tags if key.startswith(OUTPUT))


def model_logged_by(client: MlflowClient, run: Run) -> str | None:
    """The name of the model that a run has logged; None where it logged none, or its model was deleted."""
    if MODEL_ID not in run.data.tags:
        return None
    with missing_as():
        return str(client.get_logged_model(run.data.tags[MODEL_ID]).name)
    return None


def find_upstream(client: MlflowClient, run_id: str, artifact: str) -> str | None:
    """Return the run at or behind `run_id` that published `artifact`, or None."""
    seen: set[str] = set()
    waiting = [run_id]
    while waiting:
        here = waiting.pop(0)
        if here in seen:
            continue
        seen.add(here)
        run = client.get_run(here)
        if OUTPUT + artifact in run.data.tags:
            return here
        waiting += [run_of(address) for address in inputs_of(run).values()]
    return None


def model_files(client: MlflowClient, model_id: str) -> str:
    """Return the bytes of each file of a logged model by its path, as JSON."""
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        for entry in client.list_logged_model_artifacts(model_id, waiting.pop() or None):
            if entry.is_dir:
                waiting.append(entry.path)
            else:
                found[entry.path] = int(entry.file_size or 0)
    return json.dumps(found, sort_keys=True)


def address_of(run_id: str, artifact: str) -> str:
    return f"runs:/{run_id}/{artifact}"


def run_of(address: str) -> str:
    """The run id in an address such as runs:/ID/data/data_train.csv."""
    return address.removeprefix("runs:/").split("/", 1)[0]


def artifact_of(address: str) -> str:
    """The artifact's name in an address such as runs:/ID/data/data_train.csv.

    Raises:
        BadParameter: it names a run only.
    """
    _, _, name = address.removeprefix("runs:/").partition("/")
    if not name:
        raise BadParameter(f"'{address}' names no artifact of that run. Write runs:/ID/NAME.")
    return name


def digest_of(client: MlflowClient, address: str) -> str:
    """Return "sha256:..." of an artifact as its run recorded it, or the address itself if it recorded none."""
    return str(client.get_run(run_of(address)).data.tags.get(OUTPUT + artifact_of(address), address))


def origin_of(client: MlflowClient, run_id: str) -> Run:
    """Return the run at the beginning of the chain that `run_id` reads from (the download)."""
    run = client.get_run(run_id)
    while inputs := inputs_of(run):
        run = client.get_run(run_of(next(iter(inputs.values()))))
    return run


def data_set_of(client: MlflowClient, run_id: str) -> str:
    """Return the name of the data set at the beginning of the chain; "unknown" if a run of the chain is gone."""
    with missing_as():
        return str(origin_of(client, run_id).data.tags.get(DATA_SET, "unknown"))
    return "unknown"
