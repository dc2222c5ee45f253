"""Connection to a Ray cluster, or to a new one on this machine, with checks before the first job runs."""

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
"""Ray's name for a cluster on this machine that ends with the process that starts it."""

CLIENT = "ray://"
CONNECT_TIMEOUT_SECONDS = 5.0

EXCLUDED_PATHS = [
    "/.git", "/.venv", "/mlflow.db*", "/mlruns", "/mlartifacts", "/outputs", "/multirun", "/tests",
    "/.*_cache", "/.hypothesis", "__pycache__",
]  # fmt: skip
"""Paths that Ray does not send to the workers, in the format of .gitignore. Ray also respects .gitignore itself."""

PASSED_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY")
"""Variables that are passed to the workers. No passwords: Ray shows them to everyone on the cluster."""


def import_ray(address: str) -> Any:
    """Import and return the optional module ray.

    Raises:
        ConfigError: Ray is not installed.
    """
    if address == LOCAL:
        # Ray reads this during its import. Without it Ray writes a token to ~/.ray, which all later clusters of this
        # user then require.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        # One attempt to connect instead of 20 is enough, because verify_listening has connected to the port before.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # do not send usage data to third parties
    os.environ.setdefault(
        "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", ""
    )  # avoids a warning about Ray's default excludes
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(f"hydra/launcher=ray: {error}. Install the cluster engines: make cluster") from error


def connect(ray: Any, address: str, settings: RaySettings, job: DictConfig) -> None:
    """Connect to the cluster, or start one on this machine, for the lifetime of this process.

    Raises:
        ConfigError: the cluster does not respond, rejects the connection, is too small, or cannot reach the tracking
            store.
    """
    options: dict[str, Any] = {"include_dashboard": False}
    if address != LOCAL:
        verify_shared_tracking(job, address)
        verify_listening(address)
        options = {}
    env = build_runtime_env(settings, address)
    try:
        with restore_handler(signal.SIGTERM):  # ray.init installs its own, which exits without cleanup
            ray.init(address=address, runtime_env=env, logging_level=logging.WARNING, **options)
    except (ConnectionError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        raise ConfigError(_explain_failure(address, error)) from error
    verify_cores(ray, settings.num_cpus)


def verify_cores(ray: Any, num_cpus: float) -> None:
    """Raise ConfigError if no node has enough cores for one job: Ray would wait forever without a message."""
    largest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if num_cpus > largest:
        raise ConfigError(
            f"hydra.launcher.num_cpus={num_cpus:g}: no node of the Ray cluster has enough cores "
            f"(found at most {largest:g})"
        )


def verify_listening(address: str) -> None:
    """Raise ConfigError if nothing listens at host:port. Ray itself would try for half a minute and log errors."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host:  # "auto": Ray looks for a node on this machine
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"hydra.launcher.address: no Ray cluster at {address} ({error}). Start one (ray start --head --port 6379), "
            "or set hydra.launcher.address or RAY_ADDRESS to another."
        ) from error


def verify_shared_tracking(job: DictConfig, address: str) -> None:
    """Raise ConfigError if the tracking store is a file on this machine."""
    announced = OmegaConf.select(job, "hydra.job.env_set.MLFLOW_TRACKING_URI")
    configured = OmegaConf.select(job, "main.mlflow_tracking_url")
    uri = str(announced or configured or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    if "://" not in uri or uri.startswith(("sqlite", "file:")):
        raise ConfigError(
            f"main.mlflow_tracking_url: workers of the Ray cluster at {address} cannot reach {uri}. Start a tracking "
            "server (mlflow server --host 0.0.0.0 --port 5000), and set main.mlflow_tracking_url=http://HOST:5000 with "
            f"the name of this machine ({socket.gethostname()})."
        )


def build_runtime_env(settings: RaySettings, address: str) -> dict[str, Any]:
    """Return the environment that Ray prepares on each node: variables, and the code unless the cluster is local.

    Raises:
        ConfigError: a variable holds a password.
    """
    variables = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    if has_secret(variables.get("MLFLOW_TRACKING_URI", "")):
        raise ConfigError(
            "MLFLOW_TRACKING_URI: holds a password, which Ray shows to everyone on the cluster. Remove it, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (for a database PGPASSWORD) on each node."
        )
    env: dict[str, Any] = {"env_vars": {**variables, **settings.env}}
    folder = settings.working_dir or (None if address == LOCAL else str(ROOT))
    return {**env, "working_dir": folder, "excludes": EXCLUDED_PATHS} if folder else env


def _explain_failure(address: str, error: BaseException) -> str:
    """Return in one line why the cluster cannot be used."""
    causes = [error]
    while causes[-1].__cause__:
        causes.append(causes[-1].__cause__)
    if "AuthToken" in "".join(map(str, causes)):
        return (
            f"Ray cluster at {address}: requires its token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to the token of its nodes."
        )
    hint = "" if address.startswith(CLIENT) else ". From a machine outside of the cluster, use ray://HOST:10001."
    return f"Ray cluster at {address}: cannot be used: {' '.join(str(error).split())[:500]}{hint}"
