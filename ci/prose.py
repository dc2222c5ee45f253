"""Check for words and sentences that are hard to read: in Markdown, docstrings, comments and messages."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

LONGEST_SENTENCE = 40
ADVICE = {
    "use a plainer word": r"\b(?:mend(?:s|ed|ing)?|anew|tells?|told|says?|said|nobody|somebody|whoever|beside|gone|away"
    r"|otherwise|at it|(?:lies?|stands?) (?:in|on)|go(?:es)? on|of before|(?:is|are) no (?!longer|more|less)\w+)\b",
    "name the subject": r"(?:^|[.:;(]\s+|,\s|\b(?:of|for|by|to|and|than|from|with|in)\s)(?:what|whether)\s(?!to do)\w+",
}
CODE = re.compile(r"```.*?```|<!--.*?-->|`[^`\n]*`|https?://\S+", re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\n|\n\s*(?:[-*|]|\d+\.)\s|\s\|\s|;\s")


def read_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each docstring, message and comment."""
    nodes = list(ast.walk(ast.parse(source)))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            texts = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(texts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value if " " in node.value else ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def find_problems(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line in `text`, from 0, and the advice for each word and sentence that is hard to read."""
    prose = CODE.sub(lambda match: "x" + "\n" * match[0].count("\n"), text)
    for advice, pattern in ADVICE.items():
        for match in re.finditer(pattern, prose, re.IGNORECASE):
            yield prose.count("\n", 0, match.start()), f"'{match[0].strip()}': {advice}"
    for sentence in SENTENCE_END.split(prose):
        if len(sentence.split()) > LONGEST_SENTENCE:
            yield prose.count("\n", 0, prose.find(sentence)), f"'{sentence.strip()[:40]} ...': split the sentence"


if __name__ == "__main__":
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "*.md", "*.py", ":!tests/*.py", ":!ci/prose.py"], text=True
    )
    problems = 0
    for path in listed.rstrip("\0").split("\0"):
        source = Path(path).read_text(encoding="utf-8")
        for first, text in read_python(source) if path.endswith(".py") else [(1, source)]:
            for line, problem in find_problems(text):
                problems += 1
                print(f"{path}:{first + line}: {problem}")
    sys.exit(problems > 0)
