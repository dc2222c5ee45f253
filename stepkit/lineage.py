"""Who reads from whom: the current run of a step, and the run behind a run that holds an artifact."""

from __future__ import annotations

import shlex

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from stepkit.errors import UpstreamMissing
from stepkit.tracking import is_unreachable

STEP = "step"
CURRENT = "current"
INPUT = "input."
OUTPUT = "output."
SUMMARY = "summary"
ERROR = "error"
PIPELINE = "pipeline_run_id"
DATA_SET = "data_set"

_NEWEST_FIRST = ["attributes.end_time DESC", "attributes.start_time DESC"]


def current_runs(client: MlflowClient, experiment_id: str, step: str) -> list[Run]:
    """Finished runs of `step` that are marked current, newest first; more than one only for a moment."""
    chosen = f"tags.{STEP} = '{step}' and tags.{CURRENT} = 'true' and attributes.status = 'FINISHED'"
    return list(client.search_runs([experiment_id], chosen, order_by=_NEWEST_FIRST))


def current_run(client: MlflowClient, experiment_id: str, step: str) -> Run:
    """Return the newest finished current run of `step`.

    Raises:
        UpstreamMissing: the experiment has none; the message says how to make one.
    """
    runs = current_runs(client, experiment_id, step)
    if not runs:
        name = client.get_experiment(experiment_id).name
        raise UpstreamMissing(
            f"no finished '{step}' run in experiment '{name}'. Run that step first, in the same experiment: "
            f'mlflow run . -P hydra_options="main.execute_steps={step}" --experiment-name {shlex.quote(name)}'
        )
    return runs[0]


def mark_current(client: MlflowClient, run_id: str) -> None:
    """Make a finished run the only current one of its step in its experiment.

    Each of several runs that end together first marks itself and then unmarks all but the newest that it sees.
    The last to look sees all marks, so exactly one is left.
    """
    client.set_tag(run_id, CURRENT, "true")
    run = client.get_run(run_id)
    marked = current_runs(client, run.info.experiment_id, run.data.tags[STEP])
    newest = max(marked, key=lambda one: (one.info.end_time or 0, one.info.run_id), default=run)
    for other in marked:
        if other.info.run_id != newest.info.run_id:
            client.set_tag(other.info.run_id, CURRENT, "false")


def inputs_of(run: Run) -> dict[str, str]:
    """Artifact address (runs:/ID/NAME) by artifact name, for everything that `run` has read."""
    return {key.removeprefix(INPUT): value for key, value in run.data.tags.items() if key.startswith(INPUT)}


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


def address_of(run_id: str, artifact: str) -> str:
    return f"runs:/{run_id}/{artifact}"


def run_of(address: str) -> str:
    """The run id in an address such as runs:/ID/data/data_train.csv."""
    return address.removeprefix("runs:/").split("/", 1)[0]


def artifact_of(address: str) -> str:
    return address.removeprefix("runs:/").split("/", 1)[1]


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
    try:
        return str(origin_of(client, run_id).data.tags.get(DATA_SET, "unknown"))
    except MlflowException as error:
        if is_unreachable(error):
            raise
        return "unknown"
