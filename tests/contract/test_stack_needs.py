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
    """A suite whose tests are all skipped would look green."""
    command = [sys.executable, "-m", "tests.stack.needs"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": str(tmp_path)})
    assert ended.returncode == 1
    assert "stack-test cannot run here: Linux is needed, with unshare" in ended.stderr
    assert "'prometheus' is not on this machine. Debian, Ubuntu: apt-get install prometheus" in ended.stderr


def test_a_clone_below_tmp_is_told_that_no_service_would_see_it() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as clone:
        needs = Path(clone, "tests", "stack", "needs.py")
        needs.parent.mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "stack" / "needs.py", needs)
        ended = subprocess.run([sys.executable, str(needs)], capture_output=True, text=True)
    assert f"services have a /tmp of their own, which hides {clone} from them" in ended.stderr
