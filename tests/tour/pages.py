"""The README and the pages of docs/ as a reader follows them: their commands in order, and the output they show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stepkit.paths import ROOT

LINK_TO_PAGE = re.compile(r"\]\(([\w-]+\.md)\)")
BLOCK = re.compile(
    r"^(?: *<!-- shows: (?P<shows>.*?) -->\n)?(?: *<!-- file: (?P<file>\S+?)(?:, before: (?P<before>.*?))? -->\n)?"
    r"(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Command:
    """Command line in a bash block of a page, without the comment at its end."""

    page: str
    line: int
    text: str

    @property
    def label(self) -> str:
        return f"{self.page}:{self.line} {self.text[:60]}"


@dataclass(frozen=True)
class Output:
    """Text block that a page shows as the output of one of its commands."""

    page: str
    line: int
    command: str
    body: str


@dataclass(frozen=True)
class FileBlock:
    """Block that the reader writes to a file, or inserts before a line of a file."""

    path: str
    before: str | None
    body: str

    def write(self, root: Path) -> None:
        """Write the block below a folder.

        Raises:
            ValueError: the file has no line that equals `before`.
        """
        file = root / self.path
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [] if self.before is None else file.read_text(encoding="utf-8").splitlines(keepends=True)
        place = 0 if self.before is None else lines.index(f"{self.before}\n")
        if self.body not in "".join(lines):
            file.write_text("".join([*lines[:place], self.body, *lines[place:]]), encoding="utf-8")


def list_pages() -> list[str]:
    """Return the README, then the pages of docs/ in the order of their index."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    return ["README.md", *(f"docs/{name}" for name in dict.fromkeys(LINK_TO_PAGE.findall(index)))]


def read_commands(page: str) -> list[Command]:
    """Return the commands of all bash blocks of a page, in order. A line that ends with a backslash continues."""
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = []
    for block in BLOCK.finditer(text):
        if block["language"] != "bash":
            continue
        first_line = text.count("\n", 0, block.start("body")) + 1
        begun = ""
        for line, raw in enumerate(read_body(block).splitlines(), first_line):
            begun += remove_comment(raw).lstrip()
            if begun.endswith("\\"):
                begun = begun[:-1]
            elif begun:
                commands.append(Command(page, line, begun))
                begun = ""
    return commands


def read_outputs(page: str) -> list[Output]:
    """Return all text blocks of a page that name their command by `<!-- shows: COMMAND -->`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Output(page, text.count("\n", 0, block.start("body")) + 1, block["shows"], read_body(block))
        for block in BLOCK.finditer(text)
        if block["shows"]
    ]


def read_body(block: re.Match[str]) -> str:
    """Return the text of a block without the indentation of its fence."""
    return re.sub(rf"^{block['indent']}", "", block["body"], flags=re.MULTILINE)


def read_file_blocks(page: str) -> list[FileBlock]:
    """Return all blocks that a page marks by `<!-- file: PATH -->` or `<!-- file: PATH, before: LINE -->`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [block for block in BLOCK.finditer(text) if block["file"]]
    return [FileBlock(block["file"], block["before"], read_body(block)) for block in blocks]


def remove_comment(line: str) -> str:
    """Remove a comment: two blanks or more, then `# ...`, or a whole line."""
    return re.sub(r"(^|\s{2,})#\s.*$", "", line).rstrip()


VARYING = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d[:-]\d\d([:-]\d\d)?(\.\d+)?( ?UTC|Z)?", "<time>"),
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
"""Patterns of text that differs from run to run, with the text that replaces it before two outputs are compared."""


def mask_varying(text: str) -> str:
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def find_missing_lines(shown: str, printed: str) -> list[str]:
    """Return the lines of a shown block that a command did not print; `...` stands for any text.

    The order does not matter: steps and jobs that run side by side finish in any order.
    """
    masked = mask_varying(printed)
    patterns = {
        line: [re.escape(part.strip()) for part in mask_varying(line).split("...")] for line in shown.splitlines()
    }
    return [line for line, parts in patterns.items() if not re.search(".*?".join(parts), masked)]
