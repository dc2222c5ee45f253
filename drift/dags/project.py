"""Commands of the project for the DAGs.

Airflow and the project have separate environments, so the DAGs start the project's commands with the project's Python.
Each command also works in a terminal. The DAGs get IDs and small mappings back.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # appended last, so that no folder of the project hides a package of Airflow
LAST_LINES = 12
SECONDS_TO_STOP = 20.0
ALERTS_CONNECTION = "drift_alerts"
"""Airflow connection whose password holds the apprise addresses, separated by white space."""


def get_variable(name: str, default: str = "") -> str:
    """Return an Airflow variable (set in Admin > Variables, or as AIRFLOW_VAR_NAME in the environment)."""
    from airflow.sdk import Variable

    return str(Variable.get(name, default=default) or default)


def get_python() -> Path:
    """Return the project's Python: the variable `project_python`, else the Python that `make run` installs."""
    path = Path(get_variable("project_python", str(ROOT / ".venv" / "bin" / "python")))
    if not path.is_file():
        raise FileNotFoundError(f"project_python: no Python at {path}. Type make run, or set this Airflow variable.")
    return path


def run_project(folder: str, experiment: str, parameters: Mapping[str, str], entry: str = "main") -> str:
    """Run an entry point of a project by `mlflow run`; return its output.

    A lock allows one run of an entry point at a time on this machine. If Airflow is killed, the command continues. The
    restarted task waits for the lock, and then reuses the finished work.

    Raises:
        RuntimeError: the command failed.
    """
    words = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    command = [str(get_python()), "-m", "mlflow", "run", folder, "-e", entry, *words, "--experiment-name", experiment]
    with _hold_lock(f"{Path(folder).name or 'pipeline'}-{entry}") as lock:
        return _run_command([*command, "--env-manager", "local"], keep_open=[lock])


def send_event(kind: str, context: Any, facts: Mapping[str, Any] | None = None) -> None:
    """Send an event of a task to the addresses of the connection `drift_alerts`, or of DRIFT_ALERTS."""
    task = context["ti"]
    about = {"dag": task.dag_id, "dag_run": task.run_id, "at": datetime.now(UTC).isoformat(), **(facts or {})}
    links = {"tracking": os.environ.get("MLFLOW_TRACKING_URI", ""), "airflow": task.log_url}
    _run_command(
        [str(get_python()), "-P", "-m", "drift.alerts.run"],
        text=json.dumps({"kind": kind, "facts": about, "links": links}),
        env={"DRIFT_ALERTS": _read_addresses(), "PYTHONPATH": str(ROOT)},
    )


def _read_addresses() -> str:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return str(Connection.get(ALERTS_CONNECTION).password or "")
    except AirflowNotFoundException:
        return os.environ.get("DRIFT_ALERTS", "")


def send_failure(context: Any) -> None:
    """Send an alert about a task whose last try failed. Airflow calls this function."""
    task, error = context["ti"], context.get("exception") or "the task ended without a message (killed or lost)"
    send_event("failure", context, {"task": task.task_id, "try": task.try_number, "error": str(error)})


SCHEDULE = os.environ.get("DRIFT_SCHEDULE", "0 6 * * *")
"""Cron expression of the end of windows; "none": only manual triggers."""

TASK_DEFAULTS: dict[str, Any] = {
    "retries": int(os.environ.get("DRIFT_RETRIES", "3")),
    "retry_delay": timedelta(seconds=float(os.environ.get("DRIFT_RETRY_SECONDS", "30"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=30),
    "on_failure_callback": send_failure,
}
"""Defaults of every task. The retries bridge a short outage of the tracking server; a long outage alerts."""


def is_backfill(context: Any) -> bool:
    """Return True if the DAG run belongs to a backfill."""
    # run_type is a str enum: it equals its value, but its str() does not.
    return bool(context["dag_run"].run_type == "backfill")


def send_success(context: Any, kind: str, facts: Mapping[str, Any]) -> None:
    """Send the all-clear if the DAG had failed before, and then an event."""
    send_event("success", context)
    send_event(kind, context, facts)


def report_window(current: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a window of the prediction log by `mlflow run ./drift`; return the parts that other tasks need."""
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        file = Path(folder) / "result.json"
        run_project("./drift", "drift", {"current": current, "result": str(file), **options})
        return drop_details(json.loads(file.read_text(encoding="utf-8")))


def drop_details(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return IDs, decision and content of the alert; drift.json of the run has the full result."""
    return {name: value for name, value in result.items() if name not in ("columns", "quality", "details")}


def export_labelled(dag_run: str) -> str:
    """Write the newest labelled rows of the prediction log to a file of this DAG run; return its path.

    The Airflow variables `labelled_rows` (rows of the log to read) and `labelled_folder` override the defaults.
    """
    folder = Path(get_variable("labelled_folder", str(ROOT / "outputs" / "retraining")))
    file = folder / f"{re.sub(r'[^0-9A-Za-z]+', '-', dag_run)}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    rows = get_variable("labelled_rows", "30000")
    run_project("./drift", "drift", {"output": str(file), "rows": rows}, entry="labelled")
    return str(file)


def request_retraining(result: Mapping[str, Any], requests: Any, dag_run: str) -> dict[str, str]:
    """Return the content of the asset event that requests a retraining for a window.

    A retry of the same DAG run, or a cleared one, requests again: its first try may have ended before Airflow stored
    the event.

    Args:
        result: the result of the window.
        requests: store of the asset, which maps each window to the DAG run that requested a retraining.
        dag_run: ID of this DAG run.

    Raises:
        AirflowSkipException: another DAG run has requested a retraining for this window.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    model, span = result["model"], result["window"]
    window = f"{model['name']} version {model['version']}, {span['from']} to {span['to']}"
    earlier = requests.get(window, default=dag_run)
    if earlier != dag_run:
        raise AirflowSkipException(f"{window}: retraining already requested by DAG run {earlier}")
    requests.set(window, dag_run)
    return {"drift_run_id": result["run_id"], "reason": result["decision"]["reason"], "window": window}


def explain_retraining(requests: Sequence[Mapping[str, Any]], typed: str) -> dict[str, str]:
    """Return the cause of a retraining: the newest request (oldest first), or the reason that the user typed."""
    return {name: requests[-1][name] for name in ("drift_run_id", "reason")} if requests else {"reason": typed}


def train(file_url: str, because: Mapping[str, str], options: str) -> str:
    """Run the pipeline on a table; return the ID of its run. Finished steps of an earlier try are reused."""
    # The drifted data differ from the champion's training data on purpose, so do not compare them in check_data.
    from stepkit.commands import quote_for_hydra

    overrides = [f"data.file_url={quote_for_hydra(file_url)}", "data.sha256=[]", "data.reference_dataset=none"]
    overrides += [f"main.because.{name}={quote_for_hydra(text)}" for name, text in because.items()]
    words = [*map(shlex.quote, overrides), get_variable("pipeline_options"), options]
    experiment = get_variable("retraining_experiment", "Default")
    output = run_project(".", experiment, {"hydra_options": " ".join(filter(None, words))})
    run_ids = re.findall(r"Run \(ID '(\w+)'\) succeeded", output)
    if not run_ids:
        raise RuntimeError("mlflow run: no run ID in its output. See the log above.")
    return str(run_ids[-1])


def choose_window(params: Mapping[str, Any], start: datetime | None, end: datetime | None, now: datetime) -> str:
    """Return the window of a DAG run as `log:?...`: the typed window, else the data interval, else the last day."""
    if params.get("rows"):
        return f"log:?rows={params['rows']}"
    typed = [params.get("window_from"), params.get("window_to")]
    if any(typed) and not all(typed):
        raise ValueError("window_from, window_to: only one is set (expected both or neither)")
    if all(typed):
        start, end = (datetime.fromisoformat(str(text)) for text in typed)
    if start is None or end is None or start == end:
        start, end = now - timedelta(days=1), now
    if start >= end:
        raise ValueError(f"window_to: {end} is not after window_from ({start})")
    return f"log:?from={_format_utc(start)}&to={_format_utc(end)}"


def _format_utc(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with a Z, because a plus sign in a URL means a space."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def _hold_lock(name: str) -> Iterator[int]:
    """Hold a lock until this process and the command that inherits the lock have ended."""
    with (Path(os.environ.get("AIRFLOW_HOME", tempfile.gettempdir())) / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _run_command(
    command: list[str], text: str = "", env: Mapping[str, str] | None = None, keep_open: Sequence[int] = ()
) -> str:
    """Run a command with `text` as standard input, copy its output to the task's log, and return the output.

    Raises:
        RuntimeError: the exit status is not 0; the message contains the last lines of the output.
    """
    print("$", shlex.join(command), flush=True)
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env=_build_environment(env or {}), text=True, bufsize=1, pass_fds=keep_open,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(text)
            process.stdin.close()
            for line in process.stdout:
                sys.stdout.write(line)
                lines.append(line)
        except BaseException:
            _stop_tree(process.pid)
            raise
    if process.returncode:
        last = "".join(lines[-LAST_LINES:]).strip()
        raise RuntimeError(f"{shlex.join(command[1:6])} ...: exit status {process.returncode}\n{last}")
    return "".join(lines)


def _build_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without Airflow's PYTHONPATH, and with the project's programs first."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    # By default MLflow retries for minutes; Airflow retries the task anyway.
    defaults = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
    path = f"{get_python().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**defaults, **inherited, "PATH": path, "PYTHONUNBUFFERED": "1", **more}


def _stop_tree(pid: int) -> None:
    """Stop a command and its descendants. They share a process group with Airflow's task, so find them by parent."""
    import psutil  # Airflow installs psutil; the environments of the project lack it.

    with suppress(psutil.NoSuchProcess):
        tree = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
        for send in (psutil.Process.terminate, psutil.Process.kill):
            for process in tree:
                with suppress(psutil.NoSuchProcess):
                    send(process)
            _, tree = psutil.wait_procs(tree, timeout=SECONDS_TO_STOP)
