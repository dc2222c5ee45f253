"""Real Ray cluster with two isolated nodes on this machine.

Each node has its own loopback address and its own folder. Where the machine permits it (`unshare --mount`), the second
node also has its own view of the disk, without the repository and /tmp.
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
"""Loopback addresses of the nodes. Ray would replace 127.0.0.1 by the external address of the machine."""

SHORT = "/tmp"
"""Parent of the folders. The path of a socket has at most 107 characters, and Ray uses about 70 of them."""

SECONDS_TO_LEAVE = 20.0
RAY = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats", "--num-cpus", "1"]
# 0 is any free port. By default the ports of both nodes would start at 10002.
PORTS = ["--min-worker-port", "0", "--max-worker-port", "0", "--object-store-memory", str(100 * 1024**2)]


@dataclass
class Node:
    """Node: `ray start` with all its processes."""

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
        """Stop the node and all its processes, gracefully if possible."""
        family = self.processes() if self.process.poll() is None else []
        self.process.terminate()
        _, alive = psutil.wait_procs(family, SECONDS_TO_LEAVE)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, SECONDS_TO_LEAVE)
        self.process.wait()


@dataclass
class RayCluster:
    """Cluster, and the environment variables that a process needs to use it."""

    address: str  # for processes on a node; all processes of this machine are
    client_address: str  # for others
    env: dict[str, str]
    apart: bool  # True if the worker has its own view of the disk
    nodes: list[Node] = field(default_factory=list)

    def processes(self) -> list[psutil.Process]:
        return [process for node in self.nodes for process in node.processes()]


@cache
def find_unshare_command() -> tuple[str, ...]:
    """Return the command that gives a program its own mounts; empty if this is not permitted."""
    for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    return ()


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a head and a worker with one core each; stop both at the end."""
    pytest.importorskip("ray", reason="Ray is not installed: make cluster")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    port, client_port = str(find_free_port()), str(find_free_port())
    address = f"{HEAD}:{port}"
    cluster = RayCluster(address, f"ray://{HEAD}:{client_port}", token, apart=bool(find_unshare_command()))
    head = ["--head", "--port", port, "--ray-client-server-port", client_port, "--include-dashboard", "false"]
    with ExitStack() as stack:
        for host, role in ((HEAD, head), (WORKER, ["--address", address])):
            hidden = cluster.apart and host == WORKER
            node = stack.enter_context(_start_node([*role, "--node-ip-address", host], token, hidden))
            cluster.nodes.append(node)
        yield cluster


@contextmanager
def _start_node(options: list[str], token: dict[str, str], hidden: bool) -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=SHORT))
    node_folder = folder / "node"  # in the node's own /tmp, if it has one; it then disappears with the node
    command = [*RAY, *PORTS, *options, "--temp-dir", str(node_folder)]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "PYTHONPATH"))
    }
    env = {**inherited, **token, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            _hide_disk(command, folder) if hidden else command,
            cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    node = Node(process, folder)
    try:
        wait_until(node.is_up, f"ray start {' '.join(options)}")
        yield node
    finally:
        node.end()
        shutil.rmtree(folder)


def _hide_disk(command: list[str], folder: Path) -> list[str]:
    """Return a command that hides the repository and /tmp, except for the Python that runs it."""
    places = {ROOT, Path(SHORT), Path(tempfile.gettempdir())}
    # A folder below another one is hidden with it, and nothing can be mounted there afterwards.
    hidden = sorted(
        str(folder_path)
        for folder_path in places
        if not any(folder_path.is_relative_to(parent) for parent in places - {folder_path})
    )
    prefix = shlex.quote(sys.prefix)
    empty = "\n".join(f"mount -t tmpfs none {shlex.quote(place)}" for place in hidden)
    # The hidden files can still be reached from the working directory.
    script = f"""set -e
mkdir python
mount --bind {prefix} python
{empty}
mkdir -p {prefix} {shlex.quote(str(folder))}
mount --bind python {prefix}
cd /
exec {shlex.join(command)}"""
    return [*find_unshare_command(), "bash", "-c", script]
