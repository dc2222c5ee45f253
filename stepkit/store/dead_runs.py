"""Runs whose process died: the next pipeline or step that uses their store ends them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag

from stepkit.processes import HOST, PID, is_alive, make_process_tags
from stepkit.secret_urls import has_secret
from stepkit.store.lineage import ERROR, find_run
from stepkit.store.tracking import handle_missing

MOST_RUNS = 1000


def note_process(run_id: str) -> None:
    """Record this process on a run, as the process that will end it."""
    MlflowClient().log_batch(run_id, tags=[RunTag(key, text) for key, text in make_process_tags().items()])


def end_dead_runs(client: MlflowClient) -> Iterator[str]:
    """End each run of this host whose process died; yield a line for each, and for each run of another host."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=MOST_RUNS)]
    running = f"attributes.status = 'RUNNING' and tags.`{PID}` != ''"
    for run in client.search_runs(experiments, running, max_results=MOST_RUNS) if experiments else []:
        alive, host = is_alive(run.data.tags), run.data.tags.get(HOST, "unknown").partition(" ")[0]
        run_id, subject = run.info.run_id, f"run {run.info.run_id} ({run.info.run_name})"
        if alive is False and end_run(client, run):
            yield f"{subject}: ended, because its process had died"
        elif alive is None:
            command = format_end_command(run_id)
            yield f"{subject}: running on another host ({host}). If that host was removed, end the run: {command}"


def end_run(client: MlflowClient, run: Run) -> bool:
    """Mark a run KILLED, unless it has ended or this account lacks permission; return whether it was marked."""
    stored_run = find_run(client, run.info.run_id)
    if stored_run is None or stored_run.info.status != "RUNNING":
        return False
    with handle_missing():
        client.set_tag(run.info.run_id, ERROR, "its process died without a message")
        client.set_terminated(run.info.run_id, "KILLED")
        return True
    return False


def format_end_command(run_id: str) -> str:
    """Return the command that ends a run even if its process continues; a URL with a secret is left out."""
    uri = mlflow.get_tracking_uri()
    variable = "" if has_secret(uri) else f"MLFLOW_TRACKING_URI={shlex.quote(uri)} "
    script = f"import mlflow; mlflow.MlflowClient().set_terminated('{run_id}', 'KILLED')"
    return f"{variable}{shlex.quote(sys.executable)} -c {shlex.quote(script)}"
