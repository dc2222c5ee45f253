"""A reader who follows the pages in one terminal, on a fresh clone, with an empty home."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from tests.conftest import REAL_DATA
from tests.support.servers import wait_until
from tests.tour import plan
from tests.tour.pages import Command, read_file_blocks

SECONDS = 900
ACTIVATE = ". .venv/bin/activate"
INHERITED = ("PIP_", "UV_", "LANG", "LC_", "SSL_")
"""Beginnings of the environment variables that the reader has too: the sources of packages, and the language."""


@dataclass
class RunningServer:
    """A server that a command of the page started."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int


@dataclass
class Tourist:
    """A reader who types commands into one terminal in a clone of the repository.

    Attributes:
        clone: folder of the clone.
        env: environment of the terminal.
        outputs: text that each command printed, by page and command.
        servers: the servers of the current page, which end with it.
        ports: the free port that stands for each port that the current page writes.
    """

    clone: Path
    env: dict[str, str]
    outputs: dict[tuple[str, str], str] = field(default_factory=dict)
    page: str = ""
    servers: list[RunningServer] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def transcript(self) -> Path:
        """File of all that commands printed; a later tour of the same clone reads it too."""
        return self.clone.parent / "transcript.txt"

    def type_command(self, command: Command) -> tuple[int | None, str]:
        """Run a command; return its exit status (None for a server, which stays up) and the text that it printed."""
        if command.page != self.page:
            self.open_page(command.page)
        if command.text == ACTIVATE:
            self.activate_environment()
            return 0, ""
        line = self.fill_in(command.text)
        if plan.NEEDS_STORE_ALONE.match(line):
            self.stop_servers()
        path = plan.find_health_path(command)
        status, printed = (None, self.start_server(line, path)) if path else self.run(line)
        self.outputs[command.page, command.text] = printed
        with self.transcript.open("a", encoding="utf-8") as file:
            file.write(f"$ {line}\n{printed}\n")
        return status, printed

    def open_page(self, page: str) -> None:
        """Stop the servers of the previous page, and write the files of this one."""
        self.stop_servers()
        self.page, self.ports = page, {}
        for block in read_file_blocks(page):
            block.write(self.clone)

    def activate_environment(self) -> None:
        self.env["PATH"] = f"{self.clone}/.venv/bin{os.pathsep}{self.env['PATH']}"

    def run(self, line: str) -> tuple[int, str]:
        ended = subprocess.run(
            ["bash", "-c", line], cwd=self.clone, env=self.env, timeout=SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return ended.returncode, ended.stdout

    def start_server(self, line: str, health_path: str) -> str:
        """Start a server and wait until it responds. A server of the page that has the same port is stopped first."""
        port = int(plan.PORT.findall(line)[-1])
        for server in [server for server in self.servers if server.port == port]:
            self.stop_server(server)
        log = self.clone.parent / f"server-{port}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"], cwd=self.clone, env=self.env, start_new_session=True,
                stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.servers.append(RunningServer(process, log, port))

        def responds() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            with suppress(requests.RequestException):
                return requests.get(f"http://127.0.0.1:{port}{health_path}", timeout=2).ok
            return False

        wait_until(responds, f"a response to {line}", 300)
        return log.read_text()

    def fill_in(self, line: str) -> str:
        """Return a command with free ports, the copy of the real data, and a value for each placeholder."""
        line = plan.DEFAULT_PORTS.get(line, line)
        line = plan.PORT.sub(lambda port: str(self.ports.setdefault(port[0], find_free_port())), line)
        if "data=uci" in line:
            line = line.replace(" data.file_url=/path/to/your/copy.csv", "")
            line = line.replace("data=uci", f"data=uci data.file_url={REAL_DATA} register.model_name=uci")
        for placeholder, pattern in plan.PLACEHOLDERS.items():
            word = re.compile(rf"\b{placeholder}\b(?!=)")
            if word.search(line):
                line = word.sub(self.find_newest(pattern), line)
        return line

    def find_newest(self, pattern: str) -> str:
        values = re.findall(pattern, self.transcript.read_text(encoding="utf-8"))
        assert values, f"no earlier command printed {pattern}"
        return str(values[-1])

    def stop_servers(self) -> None:
        for server in list(self.servers):
            self.stop_server(server)

    def stop_server(self, server: RunningServer) -> None:
        """Press Ctrl-C, and check that the server and all its child processes end by themselves."""
        self.servers.remove(server)
        running = server.process.poll() is None
        children = psutil.Process(server.process.pid).children(recursive=True) if running else []
        if running:
            os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(60)
        _, alive = psutil.wait_procs(children, timeout=60)
        for process in alive:
            process.kill()
        assert not alive, server.log.read_text()[-3000:]


def clone_repository(clone: Path) -> None:
    """Clone the last commit, unless the folder holds a clone, and copy the uncommitted changes over it."""
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    command = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)


@contextmanager
def visit(folder: Path) -> Iterator[Tourist]:
    """Yield a tourist whose clone and home are in a folder; stop the servers that are up at the end."""
    clone, home = folder / "clone", folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    clone_repository(clone)
    inherited = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part)
    env = {**inherited, "PATH": path, "HOME": str(home), "LOGNAME": "alex", "COLUMNS": "120", "BROWSER": "true"}
    tourist = Tourist(clone, {**env, "UV_CACHE_DIR": str(folder / "uv")})
    if (clone / ".venv").is_dir():
        tourist.activate_environment()
    try:
        yield tourist
    finally:
        tourist.stop_servers()
