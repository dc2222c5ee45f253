"""pipeline.execution.progress: live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re

from rich.console import Console

from pipeline.execution.progress import DONE, FAILED, SKIPPED, Display

LONG = "[bold]" + "x" * 200


def test_without_a_terminal_each_change_of_state_is_one_plain_line_as_it_is() -> None:
    output = io.StringIO()
    display = Display(Console(file=output, width=60), ["preprocess", "check_data", "segregate"])
    with display.show_live():
        display.start("preprocess")
        display.update("preprocess", "not printed: only the final text is")
        display.end("preprocess", DONE, LONG)
        display.start("check_data")
        display.skip_waiting()
        display.end("check_data", FAILED, "run 1f")
    assert re.sub(r"\d+\.\d s", "N s", output.getvalue()).splitlines() == [
        "preprocess      running",
        f"preprocess      done in N s     {LONG}",
        "check_data      running",
        "check_data      failed in N s   run 1f",
    ]
    assert [line.state_text.split(" in ")[0] for line in display.lines.values()] == [DONE, FAILED, SKIPPED]


def test_on_a_terminal_every_step_has_its_line_and_the_last_that_it_said() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    display = Display(console, ["preprocess", "segregate", "register"])
    display.end("register", DONE, LONG)
    display.start("preprocess")
    display.update("preprocess", "reading 30,000 rows")
    with console.capture() as captured:
        console.print(display)
    first, second, third, *_ = re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).splitlines()
    assert first.startswith("preprocess")
    assert "running" in first
    assert "reading 30,000 rows" in first
    assert re.fullmatch(r"segregate\s+waiting\s*", second)
    assert third.endswith("xx…")
