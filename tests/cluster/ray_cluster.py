"""A real Ray cluster of two nodes on this machine, as far apart as one machine allows; it leaves nothing behind.

Each node has an address of its own on the loopback device, a folder of its own, and where the machine permits it
(`unshare --mount`) a view of the disk of its own: the second node then sees neither the repository nor /tmp.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest

from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from tests.support.servers import wait_until

HEAD, WORKER = "127.0.0.2", "127.0.0.3"
"""Linux answers to all of 127.0.0.0/8; Ray would take 127.0.0.1 for the machine's outside address."""

SHORT = "/tmp"
"""Where folders lie: the path of a socket has 107 characters at most, and Ray's own part has about 70."""

SECONDS_TO_LEAVE = 20.0
RAY = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats", "--num-cpus", "1"]
# 0: any free port; by default both nodes would count from 10002
PORTS = ["--min-worker-port", "0", "--max-worker-port", "0", "--object-store-memory", str(100 * 1024**2)]


@dataclass
class Node:
    """One `ray start` with all its processes."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def is_up(self) -> bool:
        assert self.process.poll() is None, f"ray start ended:\n{self.log}"
        return "This command will now block forever" in self.log

    def processes(self) -> list[psutil.Process]:
        ours = psutil.Process(self.process.pid)
        return [ours, *ours.children(recursive=True)]

    def end(self) -> None:
        """End the node and every process of it, in order if possible."""
        family = self.processes() if self.process.poll() is None else []
        self.process.terminate()
        _, alive = psutil.wait_procs(family, SECONDS_TO_LEAVE)
        for one in alive:
            one.kill()
        psutil.wait_procs(alive, SECONDS_TO_LEAVE)
        self.process.wait()


@dataclass
class RayCluster:
    """The cluster and what a process needs in its environment to use it."""

    address: str  # for processes on a node of the cluster; all of this machine's are
    client_address: str  # for others
    env: dict[str, str]
    apart: bool  # whether the worker sees a disk of its own
    nodes: list[Node] = field(default_factory=list)

    def processes(self) -> list[psutil.Process]:
        return [process for node in self.nodes for process in node.processes()]


@cache
def can_unshare() -> tuple[str, ...]:
    """The command that gives a program mounts of its own; empty where this is not permitted."""
    for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    return ()


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a head and a worker, each with one core, and end both."""
    pytest.importorskip("ray", reason="Ray is not installed: make cluster")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    port, client_port = str(find_free_port()), str(find_free_port())
    address = f"{HEAD}:{port}"
    cluster = RayCluster(address, f"ray://{HEAD}:{client_port}", token, apart=bool(can_unshare()))
    head = ["--head", "--port", port, "--ray-client-server-port", client_port, "--include-dashboard", "false"]
    with ExitStack() as stack:
        for host, role in ((HEAD, head), (WORKER, ["--address", address])):
            hidden = cluster.apart and host == WORKER
            node = stack.enter_context(_node([*role, "--node-ip-address", host], token, hidden))
            cluster.nodes.append(node)
        yield cluster


@contextmanager
def _node(options: list[str], token: dict[str, str], hidden: bool) -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=SHORT))
    own = folder / "node"  # below a /tmp of its own, if it gets one; it then vanishes with the node
    command = [*RAY, *PORTS, *options, "--temp-dir", str(own)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "PYTHONPATH"))}
    env = {**kept, **token, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            _hiding(command, folder) if hidden else command,
            cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    node = Node(process, folder)
    try:
        wait_until(node.is_up, f"ray start {' '.join(options)}")
        yield node
    finally:
        node.end()
        shutil.rmtree(folder)


def _hiding(command: list[str], folder: Path) -> list[str]:
    """Let a command see an empty folder for the repository and for /tmp; only the Python that runs it stays."""
    places = {ROOT, Path(SHORT), Path(tempfile.gettempdir())}
    # what is below another of them is hidden with it, and nothing can be mounted there any more
    hidden = sorted(str(one) for one in places if not any(one.is_relative_to(other) for other in places - {one}))
    prefix = shlex.quote(sys.prefix)
    empty = "\n".join(f"mount -t tmpfs none {shlex.quote(place)}" for place in hidden)
    # what was below is still reached from the working directory
    script = f"""set -e
mkdir python
mount --bind {prefix} python
{empty}
mkdir -p {prefix} {shlex.quote(str(folder))}
mount --bind python {prefix}
cd /
exec {shlex.join(command)}"""
    return [*can_unshare(), "bash", "-c", script]
