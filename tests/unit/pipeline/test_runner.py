"""Steps that may start, commands that the warm launcher parses, and the lines shown after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.execution.runner import is_ready, read_last_lines
from pipeline.launch.forkserver import parse_step_arguments
from pipeline.steps import select_steps


@pytest.mark.parametrize(
    ("executed", "done", "ready"),
    [
        (["all"], ["download", "preprocess"], ["check_data", "segregate"]),
        (["all"], ["download", "preprocess", "segregate"], ["check_data"]),
        (["all"], ["download", "preprocess", "segregate", "check_data"], ["random_forest"]),
        (["random_forest"], ["segregate"], ["random_forest"]),
    ],
    ids=["side by side", "training waits for the checks", "then it begins", "no checks to wait for"],
)
def test_a_step_is_ready_when_what_it_reads_or_waits_for_is_done(
    executed: list[str], done: list[str], ready: list[str]
) -> None:
    steps, runs = select_steps(executed, "random_forest"), dict.fromkeys(done, "1f")
    assert [step.name for step in steps if step.name not in done and is_ready(step, steps, runs)] == ready


def test_arguments_are_taken_from_a_steps_command_as_the_shell_would() -> None:
    command = "PYTHONPATH=.. python -P run.py --step preprocess --artifact_description 'two words' --input_run_id ''"
    words = ["--step", "preprocess", "--artifact_description", "two words", "--input_run_id", ""]
    assert parse_step_arguments(command) == words
    assert parse_step_arguments("python other.py") is None, "left to the shell"


def test_of_a_crash_the_last_line_is_shown_and_not_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_URL", "http://me:XqSECRETqX@127.0.0.1/a.csv")
    log = tmp_path / "step.log"
    log.write_text('reading\nTraceback (most recent call last):\n  File "run.py", line 1\nKeyError: XqSECRETqX\n')
    assert read_last_lines(log) == "KeyError: ***"
    log.write_text("reading\nSegmentation fault\n")
    assert read_last_lines(log) == "reading\nSegmentation fault"
