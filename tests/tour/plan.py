"""How each command of the README is followed: typed as it stands, as a server that stays up, or elsewhere and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.tour.readme import Command


@dataclass(frozen=True)
class Server:
    """A command that answers until it is stopped.

    Attributes:
        answers: the path that answers with 200 once it is up.
        until: the section at whose end it is stopped with Ctrl-C.
    """

    answers: str
    until: str


SERVERS = {
    "make ui": Server("/health", "Run it"),
    "mlflow models serve": Server("/ping", "Serve it"),
    "mlflow run ./serve --env-manager local -P port=5000": Server("/ping", "Watch it"),
    "make airflow": Server("/api/v2/version", "Watch it"),
}

ELSEWHERE = {
    "make test": ".ci/run types it",
    "make test-quick": "a part of make test",
    "make check test": ".ci/run types both",
    "make loop": ".ci/run types it",
    "make loop cluster-test dags-test stack-test": "rings of their own, in .ci/run and in ci.yml",
    "make tour": "is this very test",
    "make audit": "asks the database of vulnerabilities, which needs the internet",
    'mlflow run . --env-manager local -P hydra_options="data=uci"': "downloads from UCI; the next command takes a copy",
    "make secrets && make stack": "needs a container engine; make stack-test runs the commands of all containers",
    "make stack profile=core": "needs a container engine",
    "make stack-test": "a ring of its own",
    r"mlflow run \./\w+ -P step=.*": "tests/tour/test_single_steps.py, under two environment managers",
    r".*hydra/launcher=ray.*": "tests/cluster/test_sweep_on_ray.py, on a cluster of two nodes",
    r"mlflow run ./serve .*-e spark.*": "tests/cluster/test_spark.py, on two workers",
    r"export DRIFT_ALERTS=.*": "tests/system/drift/test_alerts.py, by a proxy that stands for Slack and PagerDuty",
}
"""Commands, whole or as patterns, that this ring does not type, and where they are proven instead or why nowhere."""

PORTS = re.compile(r"\b(?:5000|5001|5050|8080)\b")
"""The ports that the README writes; each is replaced by a free one, the same for every command of a section."""


def elsewhere(command: Command) -> str:
    """Where a command is proven instead, "" if it is typed here."""
    return next((why for text, why in ELSEWHERE.items() if means(text, command)), "")


def means(text: str, command: Command) -> bool:
    """Whether an entry of ELSEWHERE is about a command."""
    return command.text == text or (".*" in text and re.fullmatch(text, command.text) is not None)


def server(command: Command) -> Server | None:
    return next((kind for text, kind in SERVERS.items() if command.text.startswith(text)), None)
