"""Checks before the stack starts: each problem is one line. Needs only the standard library."""

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

from make_env import parse_assignments  # type: ignore[import-not-found]  # in this folder

HERE = Path(__file__).resolve().parent
OLDEST_COMPOSE = (2, 23, 1)
"""Oldest version that was tested. It accepts services that exit after their work during `up --wait`."""

LEAST_FREE_GB = 10
PORTS = {"MLFLOW_PORT": "MLflow", "SCORER_PORT": "the scorer", "AIRFLOW_PORT": "Airflow",
         "PROMETHEUS_PORT": "Prometheus", "GRAFANA_PORT": "Grafana"}  # fmt: skip
PROFILES = {"core": ("MLFLOW_PORT", "SCORER_PORT"), "full": tuple(PORTS)}
"""Ports that each profile of the compose file opens."""


def check_secrets(folder: Path) -> Iterator[str]:
    """Yield a message for each problem of docker/.env."""
    target = folder / ".env"
    if not target.is_file():
        yield f"{target}: file missing. Run: make secrets"
        return
    values = parse_assignments(target.read_text(encoding="utf-8"))
    defaults = parse_assignments((folder / ".env.example").read_text(encoding="utf-8"))
    empty = [name for name in defaults if not values.get(name)]
    if empty:
        yield f"{target}: no value for {', '.join(empty)}. Run: make secrets"
    for name in [name for name, default in defaults.items() if not default and values.get(name)]:
        if unsafe := list_unsafe_characters(name, os.environ.get(name) or values[name]):
            yield (
                f"{name}: the value has characters that break a URL, a shell or JSON (found {' '.join(unsafe)}). "
                f"Use letters, digits, - and _, or clear it in {target} and run: make secrets"
            )
    if stat.S_IMODE(target.stat().st_mode) & 0o077:
        yield f"{target}: other users of this machine can read it. Run: chmod 600 {target}"


def list_unsafe_characters(name: str, value: str) -> list[str]:
    """Return the sorted characters of a secret that would break part of the stack; "blanks" stands for white space."""
    unsafe = set(value) & {*"\"'\\$`", *("@/:%?#" if name.endswith("_PASSWORD") else "")}
    return [*sorted(unsafe), *(["blanks"] if any(character.isspace() for character in value) else [])]


def check_ports(values: dict[str, str], profile: str) -> Iterator[str]:
    """Yield a message for each port of the profile that is in use."""
    address = values.get("BIND_ADDRESS") or "127.0.0.1"
    for name in PROFILES[profile]:
        port = int(values.get(name) or 0)
        if port and not is_port_free(address, port):
            yield (
                f"{name}: port {port} of {address} ({PORTS[name]}) is in use. Stop the process that uses it "
                f"(find it with: ss -ltnp 'sport = :{port}'), or set {name} to another port in docker/.env."
            )


def is_port_free(address: str, port: int) -> bool:
    """Return True if a server could listen on this port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def check_docker() -> Iterator[str]:
    """Yield a message if the Docker engine is not available or Docker Compose is too old."""
    try:
        result = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True)
    except FileNotFoundError:
        yield "docker: not installed. See docs.docker.com/engine/install, or run without containers: make run"
        return
    numbers = tuple(int(part) for part in result.stdout.strip().lstrip("v").split("-")[0].split(".") if part.isdigit())
    if result.returncode or numbers < OLDEST_COMPOSE:
        oldest = ".".join(map(str, OLDEST_COMPOSE))
        yield f"Docker Compose: too old (found {result.stdout.strip() or 'none'}, required {oldest}). Update Docker."
    elif subprocess.run(["docker", "info"], capture_output=True).returncode:
        yield "Docker engine: no response. Start it (systemctl start docker) and check that your user may use it."


def is_stack_running(folder: Path) -> bool:
    """Return True if containers of this stack are running. They use its ports themselves."""
    command = ["docker", "compose", "-f", str(folder / "compose.yaml"), "ps", "--format", "json"]
    result = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return any(json.loads(line).get("State") == "running" for line in lines)


def check_disk(folder: Path) -> Iterator[str]:
    """Yield a message if the disk of a folder is nearly full."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < LEAST_FREE_GB:
        yield f"{folder}: disk nearly full (found {free:.1f} GB free, need {LEAST_FREE_GB} GB). Run: docker system df"


def main() -> None:
    """Print each problem and exit with status 1 if there is one."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--profile", choices=PROFILES, default="full", help="profile to check")
    profile = flags.parse_args().profile
    problems = [*check_secrets(HERE), *check_docker()]
    if not problems:
        problems = [*check_disk(Path("/"))]  # images and volumes are usually on the disk of the root folder
        if not is_stack_running(HERE):
            values = {**parse_assignments((HERE / ".env").read_text(encoding="utf-8")), **os.environ}
            problems += check_ports(values, profile)
    if problems:
        sys.exit("\n".join(f"the stack cannot start: {problem}" for problem in problems))


if __name__ == "__main__":
    main()
