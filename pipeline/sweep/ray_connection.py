"""Join a Ray cluster or start one of this machine's; what would go wrong there is checked before."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import socket
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config import ConfigError
from pipeline.sweep.plugin_settings import RaySettings
from stepkit.paths import ROOT
from stepkit.processes import restore_handler
from stepkit.secret_urls import has_secret
from stepkit.store.tracking import DEFAULT_URI

LOCAL = "local"
"""Ray's own word for a cluster of this machine's that lives as long as the process that starts it."""

CLIENT = "ray://"
CONNECT_TIMEOUT_SECONDS = 5.0

EXCLUDED_PATHS = [
    "/.git", "/.venv", "/mlflow.db*", "/mlruns", "/mlartifacts", "/outputs", "/multirun", "/tests",
    "/.*_cache", "/.hypothesis", "__pycache__",
]  # fmt: skip
"""What of the repository no worker needs, in the manner of .gitignore (which Ray heeds too)."""

PASSED_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY")
"""Variables that the workers get as they are here. No passwords: Ray shows them to everyone on the cluster."""


def import_ray(address: str) -> Any:
    """Return the module ray, by name: a pipeline does without it. Raises ConfigError if it is not installed."""
    if address == LOCAL:
        # read as Ray is imported. Without it Ray writes a token to ~/.ray, and from then on every cluster that
        # this user starts asks for it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        # one attempt to connect instead of 20: `expect_answer` knows by then that something listens there
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # do not send usage data to third parties
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")  # Ray warns of those that it chooses itself
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(f"hydra/launcher=ray: {error}; install the cluster engines: make cluster") from error


def connect(ray: Any, address: str, settings: RaySettings, job: DictConfig) -> None:
    """Join the cluster, or start one of this machine's; it stays until this process ends.

    Raises:
        ConfigError: the cluster does not answer, refuses or is too small, or cannot see the tracking store.
    """
    more: dict[str, Any] = {"include_dashboard": False}
    if address != LOCAL:
        verify_shared_tracking(job, address)
        verify_listening(address)
        more = {}
    env = build_runtime_env(settings, address)
    try:
        with restore_handler(signal.SIGTERM):  # ray.init replaces it by an exit without an ending
            ray.init(address=address, runtime_env=env, logging_level=logging.WARNING, **more)
    except (ConnectionError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        raise ConfigError(_explain_failure(address, error)) from error
    verify_cores(ray, settings.num_cpus)


def verify_cores(ray: Any, num_cpus: float) -> None:
    """Raise ConfigError if no node has the cores of one job: Ray would wait for one silently and for ever."""
    largest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if num_cpus > largest:
        raise ConfigError(
            f"hydra.launcher.num_cpus={num_cpus:g}: no node of the Ray cluster has that many cores "
            f"(the largest has {largest:g})"
        )


def verify_listening(address: str) -> None:
    """Raise ConfigError if nothing listens at host:port; Ray itself tries for half a minute, and logs all the while."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host:  # "auto": Ray looks for a node on this machine
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}). Start one (ray start --head --port 6379), "
            "or name another: hydra.launcher.address or RAY_ADDRESS"
        ) from error


def verify_shared_tracking(job: DictConfig, address: str) -> None:
    """Raise ConfigError if the tracking store is a file of this machine."""
    announced = OmegaConf.select(job, "hydra.job.env_set.MLFLOW_TRACKING_URI")
    configured = OmegaConf.select(job, "main.mlflow_tracking_url")
    uri = str(announced or configured or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    if "://" not in uri or uri.startswith(("sqlite", "file:")):
        raise ConfigError(
            f"the workers of the Ray cluster at {address} cannot see {uri}. Start a tracking server that they reach "
            "(mlflow server --host 0.0.0.0 --port 5000), and name it: main.mlflow_tracking_url=http://THIS_HOST:5000"
        )


def build_runtime_env(settings: RaySettings, address: str) -> dict[str, Any]:
    """Return what Ray prepares on each node: variables, and code, which this machine alone has already.

    Raises:
        ConfigError: a password would be among it.
    """
    variables = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    if has_secret(variables.get("MLFLOW_TRACKING_URI", "")):
        raise ConfigError(
            "MLFLOW_TRACKING_URI holds a password, and Ray shows the variables of its workers to everyone. Leave it "
            "out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, of a database PGPASSWORD, on each node."
        )
    env: dict[str, Any] = {"env_vars": {**variables, **settings.env}}
    folder = settings.working_dir or (None if address == LOCAL else str(ROOT))
    return {**env, "working_dir": folder, "excludes": EXCLUDED_PATHS} if folder else env


def _explain_failure(address: str, error: BaseException) -> str:
    """Return one line about why the cluster cannot be used."""
    causes = [error]
    while causes[-1].__cause__:
        causes.append(causes[-1].__cause__)
    if "AuthToken" in "".join(map(str, causes)):
        return (
            f"the Ray cluster at {address} asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to what its nodes have"
        )
    hint = "" if address.startswith(CLIENT) else ". From a machine that is no node of it: ray://HOST:10001"
    return f"the Ray cluster at {address} cannot be used: {' '.join(str(error).split())[:500]}{hint}"
