"""Read the README as a person follows it: its commands in order, and what it shows of their output."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stepkit.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(
    r"^(?:<!-- shows: (?P<shows>.*?) -->\n)?```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Command:
    """A command line of the README.

    Attributes:
        line: its number in the README.
        text: as it stands there, without the comment behind it.
        section: the heading, of the second level, below which it stands.
    """

    line: int
    text: str
    section: str


@dataclass(frozen=True)
class Shown:
    """A block of output, and the command that it is said to be of."""

    line: int
    command: str
    body: str


def line_of(offset: int) -> int:
    return README.count("\n", 0, offset) + 1


def section_of(offset: int) -> str:
    headings = re.findall(r"^## (.*)$", README[:offset], re.MULTILINE)
    return headings[-1] if headings else ""


def commands() -> list[Command]:
    """Every command of every ```bash block, in order."""
    found = []
    for block in FENCE.finditer(README):
        if block["kind"] == "bash":
            first, section = line_of(block.start("body")), section_of(block.start())
            lines = enumerate(block["body"].splitlines(), first)
            found += [Command(number, bare(text), section) for number, text in lines if bare(text)]
    return found


def bare(line: str) -> str:
    """The line without its comment: two blanks or more, then `# ...`; or nothing else than that."""
    return re.sub(r"(^|\s{2,})#\s.*$", "", line).strip()


def shown() -> list[Shown]:
    """Every ```text block."""
    blocks = (block for block in FENCE.finditer(README) if block["kind"] == "text")
    return [Shown(line_of(block.start("body")), block["shows"] or "", block["body"]) for block in blocks]


VOLATILE = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?( UTC)?", "<time>"),
    (r"\b\d+(\.\d+)? ?(s|ms)\b", "<seconds>"),
    (r"\b\d\.\de-\d\d\b", "<tiny>"),
    (r"(?<=│)\s+\d+\.\d\s+(?=│)", "<seconds>"),
    (r'(?<="probability": )0\.\d+', "<probability>"),
    (r"(?<=x-model-version: )\d+", "<version>"),
    (r"(?<=127\.0\.0\.1:)\d+", "<port>"),
    (r"(?<=localhost:)\d+", "<port>"),
    (r"(?<=--port )\d+", "<port>"),
    (r"(?<=\bby )(?!the gate\b)\w+(?=:)", "<user>"),
    (r"[│┃┏┳┓┡╇┩└┴┘━─├┼┤]+", " "),
    (r"\s+", " "),
)
"""What differs from run to run, and what stands in its place when two outputs are compared."""


def masked(text: str) -> str:
    for pattern, instead in VOLATILE:
        text = re.sub(pattern, instead, text)
    return text.strip()


def missing(shown_text: str, output: str) -> list[str]:
    """The lines of a shown block that the output does not hold; `...` stands for anything.

    In any order: steps and jobs that run side by side end as they like.
    """
    said = masked(output)
    lost = []
    for line in shown_text.splitlines():
        wanted = [re.escape(part.strip()) for part in masked(line).split("...")]
        if not re.search(".*?".join(wanted), said):
            lost.append(line)
    return lost
