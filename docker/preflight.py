"""See that the stack can start, and say in one line each what is in its way. Needs Python alone."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from make_env import assignments  # type: ignore[import-not-found]  # beside this file

HERE = Path(__file__).resolve().parent
OLDEST_COMPOSE = (2, 23, 1)
"""Well after `up --wait` learnt to let services end that have done their work; an older one was never looked at."""

LEAST_FREE_GB = 10
PORTS = {"MLFLOW_PORT": "MLflow", "SCORER_PORT": "the scorer", "AIRFLOW_PORT": "Airflow",
         "PROMETHEUS_PORT": "Prometheus", "GRAFANA_PORT": "Grafana"}  # fmt: skip
PROFILES = {"core": ("MLFLOW_PORT", "SCORER_PORT"), "full": tuple(PORTS)}
"""Which of them each profile of the compose file opens."""


def missing_secrets(folder: Path) -> Iterator[str]:
    """One line for each thing that is wrong with docker/.env."""
    target = folder / ".env"
    if not target.is_file():
        yield f"{target} is not there. Type: make secrets"
        return
    given = assignments(target.read_text(encoding="utf-8"))
    wanted = assignments((folder / ".env.example").read_text(encoding="utf-8"))
    empty = [name for name in wanted if not given.get(name)]
    if empty:
        yield f"{target} has no value for {', '.join(empty)}. Type: make secrets"
    for name in [name for name, default in wanted.items() if not default and given.get(name)]:
        if unfit := unfit_characters(name, os.environ.get(name) or given[name]):
            yield (
                f"{name}: its value has characters that an address, a shell or JSON misreads (found "
                f"{' '.join(unfit)}). Use letters, digits, - and _, or empty it in {target} and type: make secrets"
            )
    if stat.S_IMODE(target.stat().st_mode) & 0o077:
        yield f"others on this machine can read {target}. Type: chmod 600 {target}"


def unfit_characters(name: str, value: str) -> list[str]:
    """Return the characters of a secret, in order and by name, that part of the stack would misread."""
    unfit = set(value) & {*"\"'\\$`", *("@/:%?#" if name.endswith("_PASSWORD") else "")}
    return [*sorted(unfit), *(["blanks"] if any(one.isspace() for one in value) else [])]


def taken_ports(given: dict[str, str], profile: str) -> Iterator[str]:
    """One line for each port of the profile that somebody else listens on."""
    address = given.get("BIND_ADDRESS") or "127.0.0.1"
    for name in PROFILES[profile]:
        port = int(given.get(name) or 0)
        if port and not is_free(address, port):
            yield (
                f"port {port} of {address}, meant for {PORTS[name]}, is taken. End what listens there "
                f"(ss -ltnp 'sport = :{port}' shows it), or give {name} another value in docker/.env."
            )


def is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def unfit_docker() -> Iterator[str]:
    """One line if there is no engine, or Docker Compose is too old."""
    try:
        ended = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True)
    except FileNotFoundError:
        yield "docker is not installed (docs.docker.com/engine/install). Without containers: make run"
        return
    numbers = tuple(int(part) for part in ended.stdout.strip().lstrip("v").split("-")[0].split(".") if part.isdigit())
    if ended.returncode or numbers < OLDEST_COMPOSE:
        oldest = ".".join(map(str, OLDEST_COMPOSE))
        yield f"Docker Compose {oldest} or newer is needed (found: {ended.stdout.strip() or 'none'}). Update Docker."
    elif subprocess.run(["docker", "info"], capture_output=True).returncode:
        yield "the Docker engine does not answer. Start it (systemctl start docker), and see that you may use it."


def runs_already(folder: Path) -> bool:
    """Whether containers of this stack run: then its ports are taken by itself."""
    command = ["docker", "compose", "-f", str(folder / "compose.yaml"), "ps", "--format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    return any(json.loads(line).get("State") == "running" for line in ended.stdout.splitlines() if line.startswith("{"))


def little_room(folder: Path) -> Iterator[str]:
    """One line if the disk is nearly full. Images and volumes usually lie on the disk of the root folder."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < LEAST_FREE_GB:
        yield f"only {free:.1f} GB of the disk are free, {LEAST_FREE_GB} are needed. See: docker system df"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--profile", choices=PROFILES, default="full", help="the profile that is to start")
    profile = flags.parse_args().profile
    problems = [*missing_secrets(HERE), *unfit_docker()]
    if not problems:
        problems = [*little_room(Path("/"))]
        if not runs_already(HERE):
            given = {**assignments((HERE / ".env").read_text(encoding="utf-8")), **os.environ}
            problems += taken_ports(given, profile)
    if problems:
        sys.exit("\n".join(f"the stack cannot start: {problem}" for problem in problems))


if __name__ == "__main__":
    main()
