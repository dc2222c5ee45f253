"""Check of this machine before `make stack-test`: one line for each missing program, with its package."""

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
"""Programs of the services and their health checks, with their Debian and Ubuntu packages."""

STAMPS = (".venv/drift.stamp", ".venv-airflow/stamp")


def find_problems() -> Iterator[str]:
    yield from _find_missing_rights()
    if ROOT.is_relative_to("/tmp"):
        yield f"{ROOT}: hidden from the services, which have their own /tmp. Clone the repository outside of /tmp"
    for program, package in PACKAGES.items():
        if not _is_installed(program):
            yield f"{program}: not installed. Debian, Ubuntu: apt-get install {package}"
    for stamp in STAMPS:
        if not (ROOT / stamp).is_file():
            yield f"{stamp}: environment missing. Run: make {stamp}"


def _find_missing_rights() -> Iterator[str]:
    tools = [tool for tool in TOOLS if not shutil.which(tool)]
    if tools:
        yield f"{', '.join(tools)}: not installed. The tests need Linux with these tools"
    elif os.geteuid() != 0:
        yield "current user: not root, but services run under different accounts. Run: sudo make stack-test"
    else:
        result = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True
        )
        if result.returncode:
            yield f"unshare: this machine does not allow new namespaces: {result.stderr.strip()}"


def _is_installed(program: str) -> bool:
    return bool(shutil.which(program)) or any(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))


def main() -> None:
    if problems := [*find_problems()]:
        sys.exit("\n".join(f"stack-test cannot run here: {problem}" for problem in problems))


if __name__ == "__main__":
    main()
