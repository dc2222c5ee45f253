"""Start a step as an MLflow Project: one process in its own group, its output in a file, an end for every child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import RunStatus
from mlflow.projects import SubmittedRun, env_type
from mlflow.projects.backend import loader
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.utils import (
    PROJECT_ENV_MANAGER,
    fetch_and_validate_project,
    get_entry_point_command,
    get_or_create_run,
    get_run_env_vars,
    load_project,
)
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENV

BACKEND = "steps"
LOG_FILE = "log_file"
SECONDS_TO_END = 10.0
"""How long a step may take to mark its run KILLED and leave before it is killed itself."""


class StepProcess(SubmittedRun):  # type: ignore[misc]  # MLflow does not type its base class
    """A step's process, as MLflow's project API wants it."""

    def __init__(self, run_id: str, process: subprocess.Popen[bytes]) -> None:
        self._run_id = run_id
        self.process = process

    @property
    def run_id(self) -> str:
        return self._run_id

    def wait(self) -> bool:
        return self.process.wait() == 0

    def get_status(self) -> str:
        status = self.process.poll()
        if status is None:
            return str(RunStatus.to_string(RunStatus.RUNNING))
        return str(RunStatus.to_string(RunStatus.FINISHED if status == 0 else RunStatus.FAILED))

    def cancel(self) -> None:
        """End the step and all its children: ask, wait, then kill."""
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it may end by itself in between
            os.killpg(self.process.pid, number)


class StepBackend(AbstractBackend):  # type: ignore[misc]  # MLflow does not type its base class
    """MLflow's local back end, but the output goes to a file and the step leads its own process group.

    The group lets Ctrl-C in the main process end a step in order: the terminal's signal reaches the main process
    only, which then asks the step to end. The file keeps a step's output apart from that of others.
    """

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, str],
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> StepProcess:
        folder = fetch_and_validate_project(project_uri, version, entry_point, params)
        run = get_or_create_run(None, project_uri, experiment_id, folder, version, entry_point, params)
        env_manager = backend_config[PROJECT_ENV_MANAGER]
        mlflow.MlflowClient().set_tag(run.info.run_id, MLFLOW_PROJECT_ENV, env_manager)
        activate = activation(env_manager, folder)
        command = " && ".join([*activate, *get_entry_point_command(load_project(folder), entry_point, params, None)])
        with Path(backend_config[LOG_FILE]).open("ab") as output:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=folder,
                env=_environment(run.info.run_id, experiment_id, bool(activate)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return StepProcess(run.info.run_id, process)


def _environment(run_id: str, experiment_id: str, own: bool) -> dict[str, str]:
    """The step's variables; without an environment of its own it takes this very Python, whatever PATH says."""
    path = os.environ.get("PATH", "")
    here = "" if own else f"{Path(sys.executable).parent}{os.pathsep}"
    return {
        **os.environ,
        **get_run_env_vars(run_id, experiment_id),
        "PATH": here + path,
        "PYTHONUNBUFFERED": "1",
    }


def activation(env_manager: str, folder: str) -> list[str]:
    """Make the step's own environment if need be; return the commands that activate it.

    MLflow makes environments inside of its own back end only, so this calls what that one calls
    (mlflow/projects/backend/local.py, version 3.17).
    """
    project = load_project(folder)
    if env_manager == "local":
        return []
    if env_manager == "conda":
        from mlflow.utils.conda import get_or_create_conda_env

        return list(get_or_create_conda_env(project.env_config_path, capture_output=True).get_activate_command())
    from mlflow.utils import virtualenv
    from mlflow.utils.environment import _PythonEnv

    assert project.env_type == env_type.CONDA, f"{folder}/MLproject must name a conda_env"
    python_env = _PythonEnv.from_conda_yaml(project.env_config_path)
    name = virtualenv._get_virtualenv_name(python_env, Path(folder))
    directory = Path(virtualenv._get_mlflow_virtualenv_root()) / name
    command = virtualenv._create_virtualenv(
        Path(folder),
        python_env,
        directory,
        env_manager=env_manager,  # type: ignore[arg-type]  # MLflow has checked it: uv or virtualenv
        capture_output=True,
    )
    return [str(command)]


def launch(
    folder: Path, parameters: dict[str, str], experiment_id: str, env_manager: str, name: str, log: Path
) -> StepProcess:
    """Start the project in `folder` under the active run and return at once."""
    loader.MLFLOW_BACKENDS.setdefault(BACKEND, StepBackend)  # type: ignore[arg-type]  # typed too narrowly
    submitted = mlflow.projects.run(
        uri=str(folder),
        parameters=parameters,
        experiment_id=experiment_id,
        env_manager=env_manager,
        backend=BACKEND,
        backend_config={LOG_FILE: str(log)},
        synchronous=False,
        run_name=name,
    )
    assert isinstance(submitted, StepProcess)
    return submitted
