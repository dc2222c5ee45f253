"""A stand-in for GitHub's command line: `gh api` on pull requests and comments in a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = "someone/credit"
BOT = "github-actions[bot]"
LONGEST_BODY = 65_536
STATE = "FAKE_GITHUB"
"""The variable that names the file."""

EMPTY: dict[str, Any] = {"pulls": [], "comments": {}, "problems": [], "asked": [], "accounts": []}
"""Comments are kept by the path that lists them; `problems` are printed first, instead of an answer, one a call."""


def install(folder: Path) -> Path:
    """Put an executable `gh` into a folder; return the file of its state."""
    program, state = folder / "gh", folder / "github.json"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    state.write_text(json.dumps(EMPTY), encoding="utf-8")
    return state


@contextmanager
def change_state(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the state and store its changes."""
    state = json.loads(file.read_text(encoding="utf-8"))
    yield state
    file.write_text(json.dumps(state), encoding="utf-8")


def add_comment(state: dict[str, Any], thread: str, body: str, author: str = BOT) -> dict[str, Any]:
    number = sum(map(len, state["comments"].values())) + 1
    comment = {
        "id": number,
        "body": body,
        "user": {"login": author},
        "html_url": f"https://github.com/{thread}#{number}",
    }
    state["comments"].setdefault(thread, []).append(comment)
    return comment


def answer(state: dict[str, Any], args: argparse.Namespace) -> Any:
    """Return GitHub's response; a text means an error."""
    path = args.path.removeprefix(f"repos/{REPOSITORY}/")
    state["asked"].append(f"{args.method} {path}")
    state["accounts"].append([os.environ["GH_HOST"], os.environ["GH_TOKEN"]])
    if state["problems"]:
        return state["problems"].pop(0)
    if args.method == "GET":
        query = dict(pair.split("=", 1) for pair in args.field)
        listed = state["comments"].get(path, [])
        if path == "pulls":
            listed = [
                pull for pull in state["pulls"] if [pull["state"], pull["label"]] == [query["state"], query["head"]]
            ]
        size = int(query["per_page"])
        return [listed[start : start + size] for start in range(0, len(listed) or 1, size)]
    body = json.load(sys.stdin)["body"]
    if len(body) > LONGEST_BODY:
        return "gh: Validation Failed: body is too long (HTTP 422)"
    if args.method == "POST" and re.fullmatch(r"(issues/\d+|commits/[0-9a-f]{40})/comments", path):
        return add_comment(state, path, body)
    kind, _, number = path.rpartition("comments/")
    for thread, comments in state["comments"].items():
        for comment in comments:
            if thread.startswith(kind or "commits/") and str(comment["id"]) == number:
                comment["body"] = body
                return comment
    return "gh: Not Found (HTTP 404)"


def main() -> None:
    parser = argparse.ArgumentParser("gh")
    parser.add_argument("api", choices=["api"])
    parser.add_argument("path")
    parser.add_argument("--method", choices=["GET", "POST", "PATCH"])
    parser.add_argument("--input", choices=["-"])
    parser.add_argument("--paginate", action="store_true")
    parser.add_argument("--slurp", action="store_true")
    parser.add_argument("-f", "--raw-field", dest="field", action="append", default=[])
    with change_state(Path(os.environ[STATE])) as state:
        response = answer(state, parser.parse_args())
    if isinstance(response, str):
        sys.exit(response)
    print(json.dumps(response))


if __name__ == "__main__":
    main()
