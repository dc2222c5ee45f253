"""How DAGs call the project: commands of its own environment, in which Airflow is not installed, nor it in Airflow's.

Every command here can be typed by hand; nothing is known to this module that is not to the commands. Only ids and
small mappings come back.
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
sys.path.append(str(ROOT))  # last: no folder of the project takes the place of a package of Airflow's
LAST_LINES = 12
SECONDS_TO_STOP = 20.0
ALERTS_CONNECTION = "drift_alerts"
"""The connection whose password holds apprise's addresses, separated by white space."""


def get_variable(name: str, default: str = "") -> str:
    """An Airflow variable (Admin, Variables; or AIRFLOW_VAR_NAME in the environment)."""
    from airflow.sdk import Variable

    return str(Variable.get(name, default=default) or default)


def get_python() -> Path:
    """The project's Python: the variable `project_python`, else that of `make run`."""
    path = Path(get_variable("project_python", str(ROOT / ".venv" / "bin" / "python")))
    if not path.is_file():
        raise FileNotFoundError(f"no Python at {path}. Type: make run. Or set the Airflow variable project_python.")
    return path


def run_project(folder: str, experiment: str, parameters: Mapping[str, str], entry: str = "main") -> str:
    """Run an entry point of a project by `mlflow run`, to its end; return what it printed.

    It never runs twice on this machine at the same time. When Airflow is killed a command goes on to its end; the task
    that is started again waits for it, and finds its work done.
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
        said=json.dumps({"kind": kind, "facts": about, "links": links}),
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
    """Airflow's callback for a task that has failed for good: nothing is watched until it is corrected."""
    task, error = context["ti"], context.get("exception") or "it ended without a message: killed, or lost"
    send_event("failure", context, {"task": task.task_id, "try": task.try_number, "error": str(error)})


SCHEDULE = os.environ.get("DRIFT_SCHEDULE", "0 6 * * *")
"""When windows end, as cron writes it; "none": only when it is triggered."""

TASK_DEFAULTS: dict[str, Any] = {
    "retries": int(os.environ.get("DRIFT_RETRIES", "3")),
    "retry_delay": timedelta(seconds=float(os.environ.get("DRIFT_RETRY_SECONDS", "30"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=30),
    "on_failure_callback": send_failure,
}
"""What holds for every task. A tracking server that is away for a minute is no alarm; one that stays away is."""


def is_backfill(context: Any) -> bool:
    """Whether a run only makes up for past windows."""
    # an enumeration of texts: it equals its text, which str() of it is not
    return bool(context["dag_run"].run_type == "backfill")


def send_success(context: Any, kind: str, facts: Mapping[str, Any]) -> None:
    """Send an event, and before it that the DAG works again if it had failed."""
    send_event("success", context)
    send_event(kind, context, facts)


def report_window(current: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Report on a window of the prediction log by `mlflow run ./drift`; return of the result what other tasks need."""
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        file = Path(folder) / "result.json"
        run_project("./drift", "drift", {"current": current, "result": str(file), **options})
        return drop_details(json.loads(file.read_text(encoding="utf-8")))


def drop_details(result: Mapping[str, Any]) -> dict[str, Any]:
    """Ids, the decision and the contents of a message; the whole result is on the run."""
    return {name: value for name, value in result.items() if name not in ("columns", "quality", "details")}


def export_labelled(dag_run: str) -> str:
    """Write the newest labelled rows of the prediction log to a file of this DAG run; return its path.

    The variables `labelled_rows` (how many rows of the log are looked at) and `labelled_folder` say otherwise.
    """
    folder = Path(get_variable("labelled_folder", str(ROOT / "outputs" / "retraining")))
    file = folder / f"{re.sub(r'[^0-9A-Za-z]+', '-', dag_run)}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    rows = get_variable("labelled_rows", "30000")
    run_project("./drift", "drift", {"output": str(file), "rows": rows}, entry="labelled")
    return str(file)


def request_retraining(result: Mapping[str, Any], asked: Any, dag_run: str) -> dict[str, str]:
    """What an asset event says of a window; the task is skipped if another DAG run asked for the same one before.

    `asked` is the asset's store: for each window, which DAG run asked. A second try of the same run asks again, since
    its first may have ended before Airflow had the event; so does a run that a person clears.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    model, when = result["model"], result["window"]
    window = f"{model['name']} version {model['version']}, {when['from']} to {when['to']}"
    earlier = asked.get(window, default=dag_run)
    if earlier != dag_run:
        raise AirflowSkipException(f"a retraining was asked for before, by {earlier}: {window}")
    asked.set(window, dag_run)
    return {"drift_run_id": result["run_id"], "reason": result["decision"]["reason"], "window": window}


def explain_retraining(asked: Sequence[Mapping[str, Any]], otherwise: str) -> dict[str, str]:
    """Why a retraining is made: the newest of the drift runs that asked for it, else what a person typed."""
    return {name: asked[-1][name] for name in ("drift_run_id", "reason")} if asked else {"reason": otherwise}


def train(file_url: str, because: Mapping[str, str], options: str) -> str:
    """Run the root project on a table; return the id of its run. What an earlier try has finished is reused."""
    # what drifted differs from what the champion was trained on, and is trained on for that very reason
    from stepkit.commands import quote_for_hydra

    overrides = [f"data.file_url={quote_for_hydra(file_url)}", "data.sha256=[]", "data.reference_dataset=none"]
    overrides += [f"main.because.{name}={quote_for_hydra(text)}" for name, text in because.items()]
    words = [*map(shlex.quote, overrides), get_variable("pipeline_options"), options]
    experiment = get_variable("retraining_experiment", "Default")
    said = run_project(".", experiment, {"hydra_options": " ".join(filter(None, words))})
    found = re.findall(r"Run \(ID '(\w+)'\) succeeded", said)
    if not found:
        raise RuntimeError("mlflow run did not say which run it was; see the log above")
    return str(found[-1])


def choose_window(params: Mapping[str, Any], start: datetime | None, end: datetime | None, now: datetime) -> str:
    """The address of the window that a DAG run is about: what was typed, else its data interval, else the last day."""
    if params.get("rows"):
        return f"log:?rows={params['rows']}"
    typed = [params.get("window_from"), params.get("window_to")]
    if any(typed) and not all(typed):
        raise ValueError("give both window_from and window_to, or neither")
    if all(typed):
        start, end = (datetime.fromisoformat(str(one)) for one in typed)
    if start is None or end is None or start == end:
        start, end = now - timedelta(days=1), now
    if start >= end:
        raise ValueError(f"the window ends before it begins: {start} to {end}")
    return f"log:?from={_format_utc(start)}&to={_format_utc(end)}"


def _format_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with a Z: a plus sign would mean a space in an address."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def _hold_lock(name: str) -> Iterator[int]:
    """Hold a lock that lives as long as this process or the command that inherits it."""
    with (Path(os.environ.get("AIRFLOW_HOME", tempfile.gettempdir())) / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _run_command(
    command: list[str], said: str = "", env: Mapping[str, str] | None = None, keep_open: Sequence[int] = ()
) -> str:
    """Run a command to its end, its output in the task's log; return the output.

    Raises:
        RuntimeError: it did not end with 0; the last lines of its output are the text.
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
            process.stdin.write(said)
            process.stdin.close()
            for line in process.stdout:
                sys.stdout.write(line)
                lines.append(line)
        except BaseException:
            _stop_tree(process.pid)
            raise
    if process.returncode:
        last = "".join(lines[-LAST_LINES:]).strip()
        raise RuntimeError(f"{shlex.join(command[1:6])} ... ended with {process.returncode}:\n{last}")
    return "".join(lines)


def _build_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment without Airflow's own Python path, and with the project's programs first."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    # MLflow's own patience with a server that is gone takes minutes; Airflow tries again by itself
    defaults = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
    path = f"{get_python().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**defaults, **kept, "PATH": path, "PYTHONUNBUFFERED": "1", **more}


def _stop_tree(pid: int) -> None:
    """End a command and all that it has started, by their parents: they are in one group with Airflow's task."""
    import psutil  # Airflow brings it; the project's own environments have none

    with suppress(psutil.NoSuchProcess):
        tree = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
        for send in (psutil.Process.terminate, psutil.Process.kill):
            for process in tree:
                with suppress(psutil.NoSuchProcess):
                    send(process)
            _, tree = psutil.wait_procs(tree, timeout=SECONDS_TO_STOP)
