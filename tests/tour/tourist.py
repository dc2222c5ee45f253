"""Somebody who follows the README in one terminal, on a fresh clone, with an empty home."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
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
from tests.tour.readme import Command, commands

COMMANDS = commands()
SECONDS = 900
ACTIVATE = ". .venv/bin/activate"
KEPT = ("PIP_", "UV_", "LANG", "LC_", "SSL_")
"""How the variables begin that a tourist has too: where packages come from, and in which language."""


@dataclass
class Running:
    """A server that was started, and the section at whose end it is stopped."""

    process: subprocess.Popen[bytes]
    output: Path
    until: str


@dataclass
class Tourist:
    """Somebody who types the commands into one terminal in a clone of the repository."""

    clone: Path
    env: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    servers: list[Running] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def type(self, command: Command) -> tuple[int | None, str]:
        """Type a command; return its exit status (None: it stays up) and what it said."""
        self.stop_servers(command.section)
        if command.text == ACTIVATE:
            self.env["PATH"] = f"{self.clone}/.venv/bin{os.pathsep}{self.env['PATH']}"
            return 0, ""
        kind, line, begin = plan.server(command), self.with_own_values(command), time.monotonic()
        status, output = (None, self.start(command, line, kind)) if kind else self.run(line)
        self.said[command.text] = output
        self.seconds[command.line] = time.monotonic() - begin
        return status, output

    def run(self, line: str) -> tuple[int, str]:
        ended = subprocess.run(
            ["bash", "-c", line], cwd=self.clone, env=self.env, timeout=SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return ended.returncode, ended.stdout

    def start(self, command: Command, line: str, kind: plan.Server) -> str:
        """Start a server and wait until it answers."""
        output = self.clone.parent / f"line-{command.line}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"], cwd=self.clone, env=self.env, start_new_session=True,
                stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.servers.append(Running(process, output, kind.until))
        port = re.findall(r"\b\d{4,5}\b", line)[-1]

        def answers() -> bool:
            assert process.poll() is None, output.read_text()[-3000:]
            with suppress(requests.RequestException):
                return requests.get(f"http://127.0.0.1:{port}{kind.answers}", timeout=2).ok
            return False

        wait_until(answers, f"an answer to {line}", 300)
        return output.read_text()

    def with_own_values(self, command: Command) -> str:
        """The command with free ports, and with what stands for a name of the reader's own."""
        line = {"make ui": "make ui port=5050", "make airflow": "make airflow port=8080"}.get(
            command.text, command.text
        )
        line = plan.PORTS.sub(lambda port: str(self.port(command, port[0])), line)
        if "data=uci" in line:
            line = line.replace(" data.file_url=/path/to/your/copy.csv", "")
            line = line.replace("data=uci", f"data=uci data.file_url={REAL_DATA} register.model_name=uci")
        if "RUN_ID" in line:
            line = line.replace("RUN_ID", self.newest_pipeline())
        if "backups/NAME" in line:
            line = line.replace("backups/NAME", f"backups/{newest_in(self.clone / 'backups')}")
        return line

    def port(self, command: Command, written: str) -> int:
        """A free port for one that the README writes; the scorer's stays while it is up."""
        name = written if command.section in ("Serve it", "Watch it") else f"{command.section} {written}"
        return self.ports.setdefault(name, find_free_port())

    def newest_pipeline(self) -> str:
        """The run id that the last `make run` showed; to ask the store would keep it open, which a restore refuses."""
        said = [text for line, text in self.said.items() if line.startswith("make run")]
        return str(re.findall(r"pipeline run +([0-9a-f]{32})", said[-1])[0])

    def stop_servers(self, section: str) -> None:
        """Press Ctrl-C in the terminals of the servers that are not needed from this section on."""
        order = list(dict.fromkeys(command.section for command in COMMANDS))
        for one in [one for one in self.servers if order.index(one.until) < order.index(section)]:
            self.stop(one)

    def stop(self, one: Running) -> None:
        """Press Ctrl-C, and see that with the command all that it started ends by itself."""
        self.servers.remove(one)
        started = psutil.Process(one.process.pid).children(recursive=True) if one.process.poll() is None else []
        os.killpg(one.process.pid, signal.SIGINT)
        one.process.wait(60)
        _, left = psutil.wait_procs(started, timeout=60)
        for process in left:
            process.kill()
        assert not left, one.output.read_text()[-3000:]


def newest_in(folder: Path) -> str:
    return max(one.name for one in folder.iterdir())


def fresh_clone(clone: Path) -> None:
    """Clone what is committed, and put the changes that are not on top."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    command = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)


@contextmanager
def arrived(folder: Path) -> Iterator[Tourist]:
    """A tourist in `folder`, which is gone afterwards, with every server that is still up."""
    clone, home = folder / "clone", folder / "home"
    home.mkdir()
    fresh_clone(clone)
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if ".venv" not in one)
    own = {"PATH": path, "HOME": str(home), "UV_CACHE_DIR": str(folder / "uv")}
    here = Tourist(clone, {**kept, **own, "LOGNAME": "alex", "COLUMNS": "120", "BROWSER": "true"})
    try:
        yield here
    finally:
        for one in list(here.servers):
            here.stop(one)
        shutil.rmtree(folder)
