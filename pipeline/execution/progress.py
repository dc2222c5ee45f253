"""Progress of a pipeline on the terminal: one line per step, updated in place; plain lines in a pipe or a file."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

WAITING, RUNNING, DONE, REUSED, FAILED, SKIPPED = "waiting", "running", "done", "reused", "failed", "not run"
_STYLES = {WAITING: "dim", RUNNING: "cyan", DONE: "green", REUSED: "blue", FAILED: "bold red", SKIPPED: "dim"}

NAME_WIDTH = 14
"""Width of the step names in plain lines; longer names need more."""


def make_console() -> Console:
    """Return the console of a command. A pipe has no width, so its lines are up to 200 characters long."""
    return Console(width=None if sys.stdout.isatty() else 200)


def print_line(console: Console, text: str) -> None:
    """Print a line unchanged: without markup, colours and line breaks."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass
class Line:
    """Line of one step.

    Attributes:
        began: start of the step, on the monotonic clock in seconds.
        seconds: duration of the step once it has ended.
        text: last line that the step logged, or its summary once it has ended.
        why: reason why the step runs again, or "".
    """

    name: str
    state: str = WAITING
    began: float = 0.0
    seconds: float = 0.0
    text: str = ""
    why: str = ""

    @property
    def state_text(self) -> str:
        """State with its duration, such as "done in 1.7 s"."""
        if self.state == RUNNING:
            return f"running {time.monotonic() - self.began:4.0f} s"
        return f"{self.state} in {self.seconds:.1f} s" if self.state in (DONE, FAILED) and self.seconds else self.state


class Display:
    """Lines of all steps of one pipeline. Without a console they are recorded and not printed."""

    def __init__(self, console: Console | None, names: list[str]) -> None:
        self.lines = {name: Line(name) for name in names}
        self._console = console
        self._is_live = bool(console and console.is_terminal)

    def show_live(self) -> AbstractContextManager[object]:
        """Return a context that redraws the lines on a terminal whenever they change."""
        return Live(self, console=self._console, refresh_per_second=8) if self._is_live else nullcontext()

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)  # Without expand, rich cuts long texts without an ellipsis.
        table.add_column(no_wrap=True, min_width=max(map(len, self.lines)))
        table.add_column(no_wrap=True, min_width=16)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for line in self.lines.values():
            is_running, state = line.state == RUNNING, Text(line.state_text, _STYLES[line.state])
            text = Text(line.text, "dim" if is_running else "")
            table.add_row(line.name, Spinner("dots", state) if is_running else state, text)
        return table

    def start(self, name: str, why: str = "") -> None:
        """Show that a step runs, and why it runs again."""
        line = self.lines[name]
        line.state, line.began, line.why, line.text = RUNNING, time.monotonic(), why, ""
        self._print_plain(line)

    def wait(self, name: str) -> None:
        """Show that another job of the sweep runs this step."""
        self.lines[name].text = "running in another job of this sweep"

    def update(self, name: str, text: str) -> None:
        """Show the last line that a step logged."""
        self.lines[name].text = text

    def end(self, name: str, state: str, text: str) -> None:
        """Show how a step ended, with its summary or the id of its failed run."""
        line = self.lines[name]
        line.seconds = time.monotonic() - line.began if line.state == RUNNING else 0.0
        line.state, line.text = state, text
        self._print_plain(line)

    def interrupt(self) -> None:
        """Show that the pipeline was interrupted: running steps failed, waiting steps do not run."""
        for line in self.lines.values():
            if line.state == RUNNING:
                self.end(line.name, FAILED, "interrupted")
        self.skip_waiting()

    def skip_waiting(self) -> None:
        """Show that the waiting steps do not run."""
        for line in self.lines.values():
            if line.state == WAITING:
                line.state = SKIPPED

    def _print_plain(self, line: Line) -> None:
        if self._console and not self._is_live:
            state = RUNNING if line.state == RUNNING else line.state_text
            text = line.why if line.state == RUNNING else line.text
            width = max(NAME_WIDTH, *map(len, self.lines))
            print_line(self._console, f"{line.name:<{width}}  {state:<16}  {text}".rstrip())
