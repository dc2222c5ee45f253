"""post: comment on the commit and the pull request of a finished run, from summary.json and GitHub's event.

The destination comes only from the event. The file is not trusted, because any pull request can write it.
Requests use GitHub's command line, `gh api`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ci.comment import MARKER, Place, render_comment
from ci.summary import MOST_BYTES, ReportFailed, Summary, read_form

BOT = "github-actions[bot]"
"""Author of comments that a workflow posts with its token. Only comments of this author are updated."""

PAUSES = (2.0, 10.0, 60.0)
"""Seconds before each retry after a temporary problem: a server error, or a rate limit."""

TEMPORARY = re.compile(r"HTTP (429|5\d\d)|rate limit|error connecting|timeout|connection re", re.IGNORECASE)
HINTS = {
    "401": "GITHUB_TOKEN: wrong or expired. In a workflow: GITHUB_TOKEN: ${{ github.token }}.",
    "403": "GITHUB_TOKEN: permission missing. Add 'pull-requests: write' (pull requests) and 'contents: write' "
    "(commits) to 'permissions' of the job.",
    "404": "Not found, or hidden from this token. Check GITHUB_REPOSITORY (owner/name) and the job's 'permissions'.",
    "410": "Comments are disabled there.",
    "422": "GitHub rejected the request; see its message.",
}


def find_pull_request(head: str, commit: str) -> int | None:
    """Return the number of the open pull request from `head` (owner:branch) whose newest commit is `commit`."""
    pulls = _list_items("pulls", "-f", "state=open", "-f", f"head={head}")
    return next((int(pull["number"]) for pull in pulls if pull["head"]["sha"] == commit), None)


def put_comment(thread: str, comments: str, body: str) -> str:
    """Create or update the comment of this workflow in a thread, and return its URL.

    Args:
        thread: path of the thread's comments, "issues/7/comments".
        comments: path of the comments of all such threads, "issues/comments".
        body: text of the comment.
    """
    for comment in _list_items(thread):
        if MARKER in (comment["body"] or "") and (comment["user"] or {}).get("login") == BOT:
            if comment["body"] == body:
                return str(comment["html_url"])
            return _send_comment("PATCH", f"{comments}/{comment['id']}", body)
    return _send_comment("POST", thread, body)


def _list_items(path: str, *query: str) -> list[dict[str, Any]]:
    pages = _call_api("GET", path, "--paginate", "--slurp", "-f", "per_page=100", *query)
    return [item for page in pages for item in page]


def _send_comment(method: str, path: str, body: str) -> str:
    return str(_call_api(method, path, "--input", "-", content=json.dumps({"body": body}))["html_url"])


def _call_api(method: str, path: str, *options: str, content: str = "") -> Any:
    """Return the response of the API. Temporary problems are retried.

    Raises:
        ReportFailed: GitHub is unreachable, or rejects the request.
    """
    command = ["gh", "api", f"repos/{os.environ['GITHUB_REPOSITORY']}/{path}", "--method", method, *options]
    for pause in (*PAUSES, None):
        try:
            result = subprocess.run(command, input=content, capture_output=True, text=True, env=_make_environment())
        except FileNotFoundError:
            raise ReportFailed("gh: not on PATH. Install GitHub's command line: https://cli.github.com") from None
        if result.returncode == 0:
            return json.loads(result.stdout)
        if pause is None or not TEMPORARY.search(result.stderr):
            break
        time.sleep(pause)
    raise ReportFailed(f"{method} {path}: {_describe_problem(result.stderr)}")


def _make_environment() -> dict[str, str]:
    """Return the environment for gh, with the names that it reads on GitHub Enterprise Server."""
    token, server = os.environ["GITHUB_TOKEN"], os.environ.get("GITHUB_SERVER_URL") or "https://github.com"
    return {**os.environ, "GH_TOKEN": token, "GH_ENTERPRISE_TOKEN": token, "GH_HOST": urlsplit(server).netloc}


def _describe_problem(stderr: str) -> str:
    status = re.search(r"\(HTTP (\d+)\)", stderr)
    hint = "Rerun the job later."
    if not TEMPORARY.search(stderr):
        hint = HINTS.get(status[1] if status else "", "Check GITHUB_SERVER_URL (the URL of GitHub).")
    return f"{stderr.strip()[:500]}. {hint}"


def post_comments(run: dict[str, Any], summary: Summary) -> list[str]:
    """Post the comment on the commit and its pull request, and return a line for each.

    Args:
        run: the part `workflow_run` of GitHub's event.
        summary: the report.
    """
    source, branch, commit = run["head_repository"], run["head_branch"], run["head_sha"]
    from_fork = source is None or source["full_name"] != os.environ["GITHUB_REPOSITORY"]
    body = render_comment(summary, Place(commit, run["html_url"], from_fork))
    lines = []
    if not from_fork:
        lines.append(f"commit: {put_comment(f'commits/{commit}/comments', 'comments', body)}")
    if source is None or branch is None:
        return [*lines, "pull request: none, because the branch was deleted"]
    number = find_pull_request(f"{source['owner']['login']}:{branch}", commit)
    if number is None:
        return [*lines, f"pull request: none, because no open one from {branch} ends with {commit[:10]}"]
    url = put_comment(f"issues/{number}/comments", "issues/comments", body)
    return [*lines, f"pull request {number}: {url}"]


def main(argv: list[str] | None = None) -> int:
    """Post the comments, and print their URLs or one error message."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json")
    args = parser.parse_args(argv)
    required = ("GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH")
    try:
        if missing := ", ".join(name for name in required if not os.environ.get(name)):
            raise ReportFailed(f"{missing}: not set. To see the comment without posting it: make ci-report")
        summary = read_form(Summary, args.summary, MOST_BYTES)
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        print("\n".join(post_comments(event["workflow_run"], summary)))
    except ReportFailed as error:
        print(f"not posted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
