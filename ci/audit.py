"""audit: list the known vulnerabilities of the packages in lock files, with pip-audit.

Exit status 1: at least one vulnerability. 3: a lock was not audited, because the advisory service was unreachable.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stepkit.words import pluralize

NOT_AUDITED = 3
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "Max retries exceeded", "ServiceError", "Temporary failure")
OPTIONS = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]


def audit_lock(lock: Path) -> subprocess.CompletedProcess[str]:
    """Look up each package of a lock that this Python would install, without installing it."""
    command = [sys.executable, "-m", "pip_audit", *OPTIONS, "--requirement", str(lock)]
    return subprocess.run(command, capture_output=True, text=True)


def judge_audit(lock: Path, audit: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """Return the exit status and a message for one lock."""
    try:
        packages: list[dict[str, Any]] = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last_lines = [line for line in audit.stderr.splitlines() if line.strip()][-1:] or ["pip-audit printed nothing"]
        unreachable = any(sign in audit.stderr for sign in UNREACHABLE)
        reason = "advisory service unreachable" if unreachable else "pip-audit failed"
        return NOT_AUDITED, f"{lock}: NOT AUDITED, {reason}. {last_lines[0][:300]}"
    vulnerabilities = [
        f"  {package['name']} {package['version']}: {advisory['id']}, "
        f"fixed in {', '.join(advisory['fix_versions']) or 'no version yet'}"
        for package in packages
        for advisory in package.get("vulns", [])
    ]
    if vulnerabilities:
        noun = "vulnerability" if len(vulnerabilities) == 1 else "vulnerabilities"
        return 1, "\n".join([f"{lock}: {len(vulnerabilities)} known {noun}", *vulnerabilities])
    # An index without advisories responds as if it did not know the packages, so pip-audit skips them.
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped:
        names = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        return (
            NOT_AUDITED,
            f"{lock}: NOT AUDITED, the service does not know {pluralize(len(skipped), 'package')} ({names})",
        )
    return 0, f"{lock}: no known vulnerability in {pluralize(len(packages), 'package')}"


def main(argv: list[str] | None = None) -> int:
    """Print the result for each lock, and return the worst exit status."""
    worst = 0
    for name in argv if argv is not None else sys.argv[1:]:
        status, message = judge_audit(Path(name), audit_lock(Path(name)))
        print(message, flush=True)
        worst = 1 if 1 in (worst, status) else max(worst, status)
    if worst == 1:
        print("requirements/*.in: raise the pins of these packages, then: make lock", file=sys.stderr)
    elif worst == NOT_AUDITED:
        print("Retry with network access: make audit", file=sys.stderr)
    return worst


if __name__ == "__main__":
    sys.exit(main())
