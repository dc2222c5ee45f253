"""Start a step as an MLflow Project: one process in its own group, its output in a file, an end for every child."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.projects import SubmittedRun
from mlflow.projects._project_spec import Project
from mlflow.projects.backend import loader
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.utils import (
    PROJECT_ENV_MANAGER,
    get_or_create_run,
    get_run_env_vars,
    load_project,
)
from mlflow.utils import virtualenv
from mlflow.utils.conda import get_or_create_conda_env
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENV
from mlflow.utils.process import ShellCommandException

from pipeline.launch.forkserver import WarmProcess, step_arguments
from stepkit.errors import EnvironmentFailed
from stepkit.processes import Process, end_groups, start_in_session

BACKEND = "steps"
LOG_FILE, WARM, STARTED, TAGS = "log_file", "warm", "started", "tags"
SECONDS_TO_END = 10.0
"""How long a step may take to mark its run KILLED and leave before it is killed itself."""


class StepProcess(SubmittedRun):  # type: ignore[misc]  # MLflow does not type its base class
    """A step's process, as MLflow's project API wants it."""

    def __init__(self, run_id: str, process: Process) -> None:
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
        end_groups([self.process], SECONDS_TO_END)


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
        # not MLflow's fetch_and_validate_project: it cuts a path at `#`
        folder = project_uri
        project = load_project(folder)
        project.get_entry_point(entry_point)._validate_parameters(params)
        env_manager = backend_config[PROJECT_ENV_MANAGER]
        activate = activation(env_manager, folder)  # takes minutes at first; before the run, which would hang about
        run = get_or_create_run(None, project_uri, experiment_id, folder, version, entry_point, params)
        tags = {MLFLOW_PROJECT_ENV: env_manager, **backend_config[TAGS]}
        mlflow.MlflowClient().log_batch(run.info.run_id, tags=[RunTag(key, text) for key, text in tags.items()])
        # MLflow's get_entry_point_command leaves a folder in /tmp, for parameters of type path; there are none here
        command: str = project.get_entry_point(entry_point).compute_command(params, None)
        env = _environment(run.info.run_id, experiment_id, bool(activate))
        arguments = step_arguments(command) if backend_config[WARM] and not activate else None
        log_file = Path(backend_config[LOG_FILE])
        process: Process
        if arguments is None:
            process = start_in_session(["bash", "-c", " && ".join([*activate, command])], log_file, env, folder)
        else:
            process = WarmProcess(arguments, folder, env, log_file)
        started = StepProcess(run.info.run_id, process)
        backend_config[STARTED].append(started)
        return started


def _environment(run_id: str, experiment_id: str, own: bool) -> dict[str, str]:
    """The step's variables; without an environment of its own it takes this very Python, whatever PATH says."""
    path = os.environ.get("PATH", "")
    here = "" if own else f"{Path(sys.executable).parent}{os.pathsep}"
    return {**os.environ, **get_run_env_vars(run_id, experiment_id), "PATH": here + path, "PYTHONUNBUFFERED": "1"}


def activation(env_manager: str, folder: str) -> list[str]:
    """Make the step's own environment if need be; return the commands that activate it.

    Raises:
        EnvironmentFailed: it cannot be made from the step's conda.yml.
    """
    if env_manager == "local":
        return []
    try:
        return _own_environment(env_manager, load_project(folder), folder)
    except (ShellCommandException, MlflowException, OSError) as error:
        raise EnvironmentFailed(
            f"{env_manager} cannot make the environment of {folder}/conda.yml: {error}. Try --env-manager local."
        ) from error


def _own_environment(env_manager: str, project: Project, folder: str) -> list[str]:
    """Do what MLflow's own back end does, and does there only (mlflow/projects/backend/local.py, version 3.17)."""
    if env_manager == "conda":
        environment = get_or_create_conda_env(project.env_config_path, capture_output=True)
        return [str(word) for word in environment.get_activate_command()]
    python_env = _PythonEnv.from_conda_yaml(project.env_config_path)
    name = virtualenv._get_virtualenv_name(python_env, Path(folder))
    command = virtualenv._create_virtualenv(
        Path(folder),
        python_env,
        Path(virtualenv._get_mlflow_virtualenv_root()) / name,
        env_manager=env_manager,  # type: ignore[arg-type]  # MLflow has checked it: uv or virtualenv
        capture_output=True,
    )
    return [str(command)]


@dataclass
class Launcher:
    """Starts steps under the active run, all in one way, and can end whatever it has started."""

    experiment_id: str
    env_manager: str
    warm: bool
    started: list[StepProcess] = field(default_factory=list)

    def launch(
        self, folder: Path, parameters: dict[str, str], name: str, log_file: Path, tags: dict[str, str]
    ) -> StepProcess:
        """Start the project in `folder`, its run named and tagged, and return at once."""
        loader.MLFLOW_BACKENDS.setdefault(BACKEND, StepBackend)  # type: ignore[arg-type]  # typed too narrowly
        submitted = mlflow.projects.run(
            uri=str(folder),
            parameters=parameters,
            experiment_id=self.experiment_id,
            env_manager=self.env_manager,
            backend=BACKEND,
            backend_config={LOG_FILE: str(log_file), WARM: self.warm, STARTED: self.started, TAGS: tags},
            synchronous=False,
            run_name=name,
        )
        assert isinstance(submitted, StepProcess)
        return submitted

    def cancel_all(self) -> list[str]:
        """End every step that still runs; return their run ids."""
        running = [process for process in self.started if process.process.poll() is None]
        end_groups([process.process for process in running], SECONDS_TO_END)
        return [process.run_id for process in running]
