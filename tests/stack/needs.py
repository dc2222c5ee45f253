"""What `make stack-test` needs of a machine: one line for each thing that is missing, with what brings it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "chroot", "ip")
PACKAGES = {"initdb": "postgresql", "psql": "postgresql", "prometheus": "prometheus", "wget": "wget"}
"""Programs that services and their health checks call, and the package of Debian and Ubuntu that has each."""

STAMPS = (".venv/drift.stamp", ".venv-airflow/stamp")


def missing() -> Iterator[str]:
    yield from _missing_rights()
    if ROOT.is_relative_to("/tmp"):
        yield f"services have a /tmp of their own, which hides {ROOT} from them. Clone the repository elsewhere"
    for program, package in PACKAGES.items():
        if not _found(program):
            yield f"'{program}' is not on this machine. Debian, Ubuntu: apt-get install {package}"
    for stamp in STAMPS:
        if not (ROOT / stamp).is_file():
            yield f"an environment is not made yet. Type: make {stamp}"


def _missing_rights() -> Iterator[str]:
    tools = [tool for tool in TOOLS if not shutil.which(tool)]
    if tools:
        yield f"Linux is needed, with {', '.join(tools)}"
    elif os.geteuid() != 0:
        yield "the services run under accounts of their own, and only root may start them. Type: sudo make stack-test"
    else:
        tried = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True
        )
        if tried.returncode:
            yield f"this machine lets nobody make namespaces: {tried.stderr.strip()}"


def _found(program: str) -> bool:
    return bool(shutil.which(program)) or any(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))


def main() -> None:
    if problems := [*missing()]:
        sys.exit("\n".join(f"stack-test cannot run here: {problem}" for problem in problems))


if __name__ == "__main__":
    main()
