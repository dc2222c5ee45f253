"""stepkit.signals: Ctrl-C and the SIGTERM with which `mlflow run` follows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stepkit.paths import ROOT

CODE = """
import os, signal
from stepkit.signals import end_on_signals
end_on_signals()
try:
    os.kill(os.getpid(), signal.{first})
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    print("ended in order")
"""


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM"])
def test_further_signals_do_not_disturb_the_end_that_the_first_began(first: str) -> None:
    words = [sys.executable, "-c", CODE.format(first=first)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended in order\n", "")
