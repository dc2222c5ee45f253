"""Start a step as an MLflow Project: one process in its own group, its output in a file, an end for every child."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.projects._project_spec import Project
from mlflow.projects.utils import get_or_create_run, get_run_env_vars, load_project
from mlflow.utils import virtualenv
from mlflow.utils.conda import get_or_create_conda_env
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_BACKEND, MLFLOW_PROJECT_ENV, MLFLOW_RUN_NAME
from mlflow.utils.process import ShellCommandException

from pipeline.launch.forkserver import WarmProcess, parse_step_arguments
from stepkit.errors import EnvironmentFailed
from stepkit.processes import Process, end_groups, start_in_session

BACKEND = "steps"
SECONDS_TO_END = 10.0
"""How long a step may take to mark its run KILLED and leave before it is killed itself."""


@dataclass(frozen=True)
class StepProcess:
    """A step that was started: its run, its process, and the file of its output."""

    run_id: str
    process: Process
    log_file: Path


@dataclass
class Launcher:
    """Starts steps under the active run, all in one way, and can end whatever it has started.

    A step is started as by MLflow's local back end, but its output goes to a file, and it leads its own process group:
    the terminal's Ctrl-C reaches the main process only, which then asks the step to end.
    """

    experiment_id: str
    env_manager: str
    warm: bool
    started: list[StepProcess] = field(default_factory=list)

    def launch(
        self, folder: Path, parameters: dict[str, str], name: str, log_file: Path, tags: dict[str, str]
    ) -> StepProcess:
        """Start the project in `folder`, its run named and tagged, and return at once."""
        # not MLflow's fetch_and_validate_project and get_entry_point_command: the first cuts a path at `#`, and the
        # second leaves a folder in /tmp
        project, uri = load_project(str(folder)), str(folder)
        entry_point = project.get_entry_point("main")
        entry_point._validate_parameters(parameters)
        # takes minutes the first time; before the run, which would stay RUNNING meanwhile
        activate = prepare_environment(self.env_manager, project, folder)
        run_id = get_or_create_run(None, uri, self.experiment_id, uri, None, "main", parameters).info.run_id
        tags = {MLFLOW_PROJECT_ENV: self.env_manager, MLFLOW_PROJECT_BACKEND: BACKEND, MLFLOW_RUN_NAME: name, **tags}
        MlflowClient().log_batch(run_id, tags=[RunTag(key, text) for key, text in tags.items()])
        command: str = entry_point.compute_command(parameters, None)
        env = _build_environment(run_id, self.experiment_id, bool(activate))
        arguments = parse_step_arguments(command) if self.warm and not activate else None
        process: Process
        if arguments is None:
            process = start_in_session(["bash", "-c", " && ".join([*activate, command])], log_file, env, folder)
        else:
            process = WarmProcess(arguments, uri, env, log_file)
        self.started.append(StepProcess(run_id, process, log_file))
        return self.started[-1]

    def cancel_all(self) -> list[str]:
        """End every step that still runs, and its children; return their run ids."""
        running = [step for step in self.started if step.process.poll() is None]
        end_groups([step.process for step in running], SECONDS_TO_END)
        return [step.run_id for step in running]


def _build_environment(run_id: str, experiment_id: str, own: bool) -> dict[str, str]:
    """Return the step's variables; without an environment of its own it uses this Python, whatever PATH names."""
    here = "" if own else f"{Path(sys.executable).parent}{os.pathsep}"
    path = here + os.environ.get("PATH", "")
    return {**os.environ, **get_run_env_vars(run_id, experiment_id), "PATH": path, "PYTHONUNBUFFERED": "1"}


def prepare_environment(env_manager: str, project: Project, folder: Path) -> list[str]:
    """Make the step's own environment if need be; return the commands that activate it.

    Does what MLflow's own back end does, and does there only (mlflow/projects/backend/local.py, version 3.17).

    Raises:
        EnvironmentFailed: it cannot be made from the step's conda.yml.
    """
    if env_manager == "local":
        return []
    try:
        if env_manager == "conda":
            environment = get_or_create_conda_env(project.env_config_path, capture_output=True)
            return [str(word) for word in environment.get_activate_command()]
        python_env = _PythonEnv.from_conda_yaml(project.env_config_path)
        place = Path(virtualenv._get_mlflow_virtualenv_root()) / virtualenv._get_virtualenv_name(python_env, folder)
        # MLflow has checked the manager: uv or virtualenv
        return [virtualenv._create_virtualenv(folder, python_env, place, env_manager, capture_output=True)]
    except (ShellCommandException, MlflowException, OSError) as error:
        raise EnvironmentFailed(
            f"{env_manager} cannot make the environment of {folder}/conda.yml: {error}. Try --env-manager local."
        ) from error
