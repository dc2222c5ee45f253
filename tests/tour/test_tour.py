"""The README followed on a fresh clone with an empty home: each of its commands, in order, and what it shows."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import requests

from stepkit.tracking import ROOT
from tests.conftest import REAL_DATA
from tests.servers import free_port, wait_until
from tests.tour import plan
from tests.tour.readme import Command, Shown, commands, missing, shown

COMMANDS = commands()
TYPED = [command for command in COMMANDS if not plan.elsewhere(command)]
SHOWN = [block for block in shown() if not any(block.command == text for text in plan.ELSEWHERE)]
SECONDS = 900
ACTIVATE = ". .venv/bin/activate"


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
        line = {"make ui": "make ui port=5000", "make airflow": "make airflow port=8080"}.get(
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
        return self.ports.setdefault(name, free_port())

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


@pytest.fixture(scope="module")
def tourist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tourist]:
    """On a clone of what is committed, with the changes that are not; no variable of this process is taken along."""
    folder = tmp_path_factory.mktemp("tour")
    clone, home = folder / "clone", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "LANG", "LC_", "SSL_"))
    }
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if ".venv" not in one)
    env = {**kept, "PATH": path, "HOME": str(home), "LOGNAME": "alex", "COLUMNS": "120", "BROWSER": "true"}
    here = Tourist(clone, {**env, "UV_CACHE_DIR": str(folder / "uv")})
    yield here
    for one in list(here.servers):
        here.stop(one)
    print("\n".join(f"line {line}: {seconds:.1f} s" for line, seconds in here.seconds.items()))
    shutil.rmtree(folder)


@pytest.mark.parametrize("command", TYPED, ids=[f"line {one.line}: {one.text[:60]}" for one in TYPED])
def test_the_command_does_what_it_says(tourist: Tourist, command: Command) -> None:
    if "data=uci" in command.text and not REAL_DATA.is_file():
        pytest.skip(f"the real data set is not at {REAL_DATA}")
    status, output = tourist.type(command)
    assert not status, output[-3000:]
    assert "Traceback" not in output


@pytest.mark.parametrize("block", SHOWN, ids=[f"line {one.line}" for one in SHOWN])
def test_what_the_readme_shows_is_what_came(tourist: Tourist, block: Shown) -> None:
    said = tourist.said.get(block.command)
    assert said is not None, f"line {block.line}: nothing was typed that is `{block.command}`"
    assert not missing(block.body, said), said[-4000:]


def test_a_table_is_answered_alike_as_json_and_as_csv(tourist: Tourist) -> None:
    answers = {
        kind: re.findall(r'"probability": ([\d.]+)', said)
        for command, said in tourist.said.items()
        for kind in re.findall(r"mlflow models predict .* -t (json|csv)", command)
    }
    assert len(answers["json"]) == 5
    assert answers["csv"] == answers["json"]
