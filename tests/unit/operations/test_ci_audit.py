"""make audit: vulnerabilities, clean locks, and locks that were not audited."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ci.audit import NOT_AUDITED, judge_audit

LOCK = Path("requirements/run.lock")
CLEAN = {"name": "pandas", "version": "2.3.3", "vulns": []}
HIT = {"name": "pandas", "version": "2.3.3", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.3.4"]}]}
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}


def make_audit(*packages: dict[str, Any]) -> CompletedProcess[str]:
    return CompletedProcess([], 0, json.dumps({"dependencies": packages, "fixes": []}), "")


def test_packages_without_advisories_are_fine() -> None:
    assert judge_audit(LOCK, make_audit(CLEAN)) == (0, "requirements/run.lock: no known vulnerability in 1 package")


def test_a_vulnerability_is_named_with_what_mends_it() -> None:
    status, message = judge_audit(LOCK, make_audit(CLEAN, HIT, UNKNOWN))
    assert status == 1
    assert "pandas 2.3.3: PYSEC-1, fixed in 2.3.4" in message


def test_packages_that_the_service_does_not_know_are_not_audited() -> None:
    status, message = judge_audit(LOCK, make_audit(CLEAN, UNKNOWN))
    assert status == NOT_AUDITED
    assert "NOT AUDITED" in message
    assert "numpy" in message


@pytest.mark.parametrize("error", ["ServiceError: ConnectionError: Max retries exceeded with url", "Traceback ...", ""])
def test_no_answer_is_not_audited(error: str) -> None:
    status, message = judge_audit(LOCK, CompletedProcess([], 1, "", error))
    assert status == NOT_AUDITED
    assert "NOT AUDITED" in message
    assert ("service unreachable" in message) == ("ConnectionError" in error)
