"""Launcher of steps as MLflow Projects: each in its own process group, with its output in a file."""

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
"""Time that a stopped step has to mark its run KILLED and exit before it is killed."""


@dataclass(frozen=True)
class StepProcess:
    """Started step: its run id, its process and the file with its output."""

    run_id: str
    process: Process
    log_file: Path


@dataclass
class Launcher:
    """Launcher that starts steps under the active run and can stop all of them.

    It starts a step as MLflow's local back end does, except that the output goes to a file and the step leads its own
    process group. Ctrl-C in the terminal therefore reaches only the main process, which then stops the steps.

    Attributes:
        experiment_id: experiment of the step runs.
        env_manager: environment manager, as named by `mlflow run --env-manager`.
        warm: start steps from the forkserver if they need no environment of their own.
        started: steps that were started, running or not.
    """

    experiment_id: str
    env_manager: str
    warm: bool
    started: list[StepProcess] = field(default_factory=list)

    def launch(
        self, folder: Path, parameters: dict[str, str], name: str, log_file: Path, tags: dict[str, str]
    ) -> StepProcess:
        """Create a run with this name and these tags, start the project in `folder` for it, and return at once.

        Raises:
            EnvironmentFailed: the step's environment cannot be created.
        """
        # fetch_and_validate_project of MLflow cuts a path at `#`, and get_entry_point_command leaves a folder in /tmp.
        project, uri = load_project(str(folder)), str(folder)
        entry_point = project.get_entry_point("main")
        entry_point._validate_parameters(parameters)
        # This takes minutes the first time. A run that was created before it would stay RUNNING all that time.
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
        """Stop every running step and its child processes; return the run ids of these steps."""
        running = [step for step in self.started if step.process.poll() is None]
        end_groups([step.process for step in running], SECONDS_TO_END)
        return [step.run_id for step in running]


def _build_environment(run_id: str, experiment_id: str, has_own_environment: bool) -> dict[str, str]:
    """Return the variables of a step. A step without its own environment gets this Python first on PATH."""
    prefix = "" if has_own_environment else f"{Path(sys.executable).parent}{os.pathsep}"
    path = prefix + os.environ.get("PATH", "")
    return {**os.environ, **get_run_env_vars(run_id, experiment_id), "PATH": path, "PYTHONUNBUFFERED": "1"}


def prepare_environment(env_manager: str, project: Project, folder: Path) -> list[str]:
    """Create the step's environment if it does not exist; return the shell commands that activate it.

    MLflow has no public function for this; the code follows mlflow/projects/backend/local.py of version 3.17.

    Raises:
        EnvironmentFailed: the environment cannot be created from the step's conda.yml.
    """
    if env_manager == "local":
        return []
    try:
        if env_manager == "conda":
            environment = get_or_create_conda_env(project.env_config_path, capture_output=True)
            return [str(word) for word in environment.get_activate_command()]
        python_env = _PythonEnv.from_conda_yaml(project.env_config_path)
        root = Path(virtualenv._get_mlflow_virtualenv_root())
        target = root / virtualenv._get_virtualenv_name(python_env, folder)
        # MLflow has checked that the environment manager is uv or virtualenv.
        return [virtualenv._create_virtualenv(folder, python_env, target, env_manager, capture_output=True)]
    except (ShellCommandException, MlflowException, OSError) as error:
        raise EnvironmentFailed(
            f"{folder}/conda.yml: {env_manager} cannot create this environment: {error}. Try --env-manager local."
        ) from error
