"""audit: locks -> the known vulnerabilities of what they name, as pip-audit finds them; 1 if there is one.

Asking needs a network. Where the service cannot be reached nothing was audited, and that is said: exit status 3.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

NOT_AUDITED = 3
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "Max retries exceeded", "ServiceError", "Temporary failure")
OPTIONS = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]


def audit_lock(lock: Path) -> subprocess.CompletedProcess[str]:
    """Ask about every package of a lock that this Python would install; nothing is installed."""
    command = [sys.executable, "-m", "pip_audit", *OPTIONS, "--requirement", str(lock)]
    return subprocess.run(command, capture_output=True, text=True)


def judge_audit(lock: Path, ended: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """Return the exit status and a message for one lock."""
    try:
        packages: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = [line for line in ended.stderr.splitlines() if line.strip()][-1:] or ["pip-audit said nothing"]
        unreachable = any(sign in ended.stderr for sign in UNREACHABLE)
        why = "the advisory service cannot be reached from here" if unreachable else "pip-audit failed"
        return NOT_AUDITED, f"{lock}: NOT AUDITED, {why}. {last[0][:300]}"
    found = [
        f"  {package['name']} {package['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'nothing'}"
        for package in packages
        for one in package.get("vulns", [])
    ]
    if found:
        return 1, "\n".join([f"{lock}: {len(found)} known vulnerabilities", *found])
    # an index without advisories answers as if it did not know the packages, and pip-audit skips them
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped:
        names = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        return NOT_AUDITED, f"{lock}: NOT AUDITED, the service knows nothing of {len(skipped)} packages ({names})"
    return 0, f"{lock}: no known vulnerability in {len(packages)} packages"


def main(argv: list[str] | None = None) -> int:
    worst = 0
    for name in argv if argv is not None else sys.argv[1:]:
        status, said = judge_audit(Path(name), audit_lock(Path(name)))
        print(said, flush=True)
        worst = 1 if 1 in (worst, status) else max(worst, status)
    if worst == 1:
        print("Raise the pins in requirements/*.in, then: make lock", file=sys.stderr)
    elif worst == NOT_AUDITED:
        print("Run it again where there is a network, as CI does.", file=sys.stderr)
    return worst


if __name__ == "__main__":
    sys.exit(main())
