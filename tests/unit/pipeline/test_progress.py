"""pipeline.execution.progress: plain lines where there is no terminal, live ones where there is."""

from __future__ import annotations

import io
import re

from rich.console import Console

from pipeline.execution.progress import DONE, FAILED, SKIPPED, Display


def lines_of(display: Display) -> list[str]:
    assert isinstance(display.console.file, io.StringIO)
    return display.console.file.getvalue().splitlines()


def plain(*names: str) -> Display:
    return Display(Console(file=io.StringIO(), width=60), list(names))


def test_without_a_terminal_each_change_of_state_is_one_plain_line() -> None:
    display = plain("preprocess", "check_data")
    with display.shown():
        display.start("preprocess")
        display.say("preprocess", "not shown: only the last word is")
        display.end("preprocess", DONE, "kept 3 of 4 rows")
        display.start("check_data")
        display.skip_waiting()
        display.end("check_data", FAILED, "run 1f")
    lines = [re.sub(r"\d+\.\d s", "N s", line) for line in lines_of(display)]
    assert lines == [
        "preprocess      running",
        "preprocess      done in N s     kept 3 of 4 rows",
        "check_data      running",
        "check_data      failed in N s   run 1f",
    ]


def test_a_plain_line_is_neither_wrapped_nor_cut_nor_taken_for_markup() -> None:
    display = plain("download")
    said = "[bold]" + "x" * 200
    display.start("download")
    display.end("download", DONE, said)
    assert lines_of(display)[-1].endswith(said)


def test_steps_that_never_began_are_marked_as_not_run() -> None:
    display = plain("a", "b", "c")
    display.start("a")
    display.end("a", FAILED, "")
    display.skip_waiting()
    assert [line.state_text.split(" in ")[0] for line in display.lines.values()] == [FAILED, SKIPPED, SKIPPED]


def test_on_a_terminal_every_step_has_its_line_and_the_last_that_it_said() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    display = Display(console, ["preprocess", "segregate"])
    display.start("preprocess")
    display.say("preprocess", "reading 30,000 rows")
    with console.capture() as captured:
        console.print(display)
    first, second, *_ = re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).splitlines()
    assert first.startswith("preprocess")
    assert "running" in first
    assert "reading 30,000 rows" in first
    assert re.fullmatch(r"segregate\s+waiting\s*", second)
