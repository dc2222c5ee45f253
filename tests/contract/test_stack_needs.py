"""make stack-test reports missing programs and settings of this machine before its tests begin."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stepkit.paths import ROOT

pytestmark = pytest.mark.slow


def test_make_stack_test_says_what_it_lacks_before_it_begins(tmp_path: Path) -> None:
    """Without this check, a suite whose tests are all skipped would look green."""
    command = [sys.executable, "-m", "tests.stack.needs"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": str(tmp_path)})
    assert result.returncode == 1
    assert "stack-test cannot run here: unshare, nsenter" in result.stderr
    assert "prometheus: not installed. Debian, Ubuntu: apt-get install prometheus" in result.stderr


def test_a_clone_below_tmp_is_told_that_no_service_would_see_it() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as clone:
        needs = Path(clone, "tests", "stack", "needs.py")
        needs.parent.mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "stack" / "needs.py", needs)
        result = subprocess.run([sys.executable, str(needs)], capture_output=True, text=True)
    assert f"{clone}: hidden from the services" in result.stderr
