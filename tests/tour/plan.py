"""How the tour runs a command: as written, as a server, with values filled in, or in another test."""

from __future__ import annotations

import re

from tests.tour.pages import Command

SERVERS = {
    "make ui": "/health",
    "make serve": "/ping",
    "make airflow": "/api/v2/version",
    "mlflow models serve": "/ping",
    "mlflow run ./serve --env-manager local -P": "/ping",
}
"""Beginnings of commands that run until they are stopped, with the path that returns 200 once they are up."""

DEFAULT_PORTS = {
    "make ui": "make ui port=5050",
    "make serve": 'make serve options="port=5000"',
    "make airflow": "make airflow port=8080",
}
"""Commands that do not write their port, and the same with it."""

PORT = re.compile(r"(?:(?<=port=)|(?<=--port )|(?<=localhost:)|(?<=127\.0\.0\.1:))\d{4,5}\b")
"""A port in a command. The tour replaces each by a free one, the same for all commands of a page."""

EXIT_STATUS = {'make run options="data.test_size=3"': 2}
"""Commands that a page shows for their error, with the exit status; every other command ends with 0."""

NEEDS_STORE_ALONE = re.compile(r"make restore")
"""Commands that refuse to run while a server uses the store: the tour stops the servers of the page first."""

PLACEHOLDERS = {
    "RUN_ID": r"pipeline run +([0-9a-f]{32})",
    "VERSION": r"credit_default version (\d+)",
    "backups/NAME": r"(backups/[\w-]+)",
}
"""Words that the reader replaces. The tour takes the newest value that a command printed and that the pattern finds."""

ELSEWHERE = {
    "make test": ".ci/run runs it",
    "make check test": ".ci/run runs both",
    "make loop": ".ci/run runs it",
    "make bench.*": "takes half an hour; tests/unit/benchmarks",
    "make cluster": "installs from the internet; make cluster-test runs with the same packages",
    'mlflow run . --env-manager local -P hydra_options="data=uci"': "downloads from UCI; another command uses a copy",
    "curl .* --data-binary @rows.csv": "needs the reader's own file; tests/system/serve/test_scorer_protocol.py",
    "make (secrets|stack).*": "needs a container engine; make stack-test runs the commands of all containers",
    "docker (compose|build) .*": "needs a container engine; make stack-test runs the commands of all containers",
    r".*(KUBE_|kubectl|kubernetes).*": "needs a cluster; tests/contract/test_kubernetes.py reads the files",
    r"mlflow run \./\w+ -P step=.*": "tests/tour/test_single_steps.py, with two environment managers",
    r".*file_url=LOANS\.csv.*": "needs the reader's own file; tests/system/pipeline/test_described_tables.py",
    r".*hydra/launcher=ray.*": "tests/cluster/test_sweep_on_ray.py, on a cluster of two nodes",
    r"ray start .*": "tests/cluster/test_sweep_on_ray.py, on a cluster of two nodes",
    r"mlflow run ./serve .*-e spark.*": "tests/cluster/test_spark.py, on two workers",
    r"export DRIFT_ALERTS=.*": "tests/system/drift/test_alerts.py, with a proxy in place of Slack and PagerDuty",
}
"""Commands, or patterns of commands, that the tour does not run, with the test that runs them or the reason."""


def explain_elsewhere(command: Command) -> str:
    """Return where a command is tested instead, "" if the tour runs it."""
    return next((reason for pattern, reason in ELSEWHERE.items() if is_meant(pattern, command)), "")


def is_meant(pattern: str, command: Command) -> bool:
    """Return whether a key of ELSEWHERE is this command, or a pattern that matches it."""
    return command.text == pattern or (".*" in pattern and re.fullmatch(pattern, command.text) is not None)


def find_health_path(command: Command) -> str | None:
    """Return the path that a server answers once it is up; None if the command is not a server."""
    return next((path for beginning, path in SERVERS.items() if command.text.startswith(beginning)), None)
