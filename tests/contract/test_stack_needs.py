"""make stack-test says in words what this machine or this clone lacks, before any of its tests begins."""

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
    """A ring whose tests are all skipped would look as if it were green."""
    command = [sys.executable, "-m", "tests.stack.needs"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": str(tmp_path)})
    assert said.returncode == 1
    assert "stack-test cannot run here: Linux is needed, with unshare" in said.stderr
    assert "'prometheus' is not on this machine. Debian, Ubuntu: apt-get install prometheus" in said.stderr


def test_a_clone_below_tmp_is_told_that_no_service_would_see_it() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as clone:
        needs = Path(clone, "tests", "stack", "needs.py")
        needs.parent.mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "stack" / "needs.py", needs)
        said = subprocess.run([sys.executable, str(needs)], capture_output=True, text=True)
    assert f"services have a /tmp of their own, which hides {clone} from them" in said.stderr
