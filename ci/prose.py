"""Check of the repository's text for words and sentences that are hard to read.

It reads Markdown, and the docstrings, comments and messages of Python files. Identifiers and code in backticks are left out.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

LONGEST = 40
WORDS = re.compile(
    r"\b(mend(s|ed|ing)?|anew|tells?|told|sa(y|ys|id)|nobody|somebody|whoever|beside|otherwise|gone|away"
    r"|(lie|stand)s? (in|on|there|beside)|at it|go(es)? on|of before|be made (out|up)|is no (?!longer|more|less)\w+|are no (?!longer|more|less)\w+)\b",
    re.IGNORECASE,
)
HEADLESS = re.compile(
    r"(^|[.:;(]\s+|,\s|\b(of|for|by|to|and|than|from|with|in)\s)(what|whether)\s(?!if\b|to do\b)[a-z]", re.IGNORECASE
)
CODE = re.compile(r"```.*?```|<!--.*?-->|`[^`\n]*`|https?://\S+", re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\n|\n\s*(?:[-*|]|\d+\.)\s|\s\|\s|;\s")


def read_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every docstring, message and block of comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 3:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def find_problems(text: str) -> Iterator[str]:
    """Yield a line for each word and sentence that breaks a rule."""
    prose = CODE.sub("x", text)
    yield from (f"'{match[0].strip()}': use a plainer word" for match in WORDS.finditer(prose))
    yield from (f"'{match[0].strip()}': name the subject" for match in HEADLESS.finditer(prose))
    for sentence in SENTENCE_END.split(prose):
        if len(sentence.split()) > LONGEST:
            yield f"'{' '.join(sentence.split()[:6])} ...': {len(sentence.split())} words, at most {LONGEST}"


def main() -> int:
    """Print every problem with its file and line; return 1 if there is one."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "*.md", "*.py"], text=True)
    problems = 0
    for path in filter(None, listed.split("\0")):
        text = Path(path).read_text(encoding="utf-8")
        for line, part in read_python(text) if path.endswith(".py") else [(1, text)]:
            for problem in find_problems(part):
                problems += 1
                print(f"{path}:{line}: {problem}")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
