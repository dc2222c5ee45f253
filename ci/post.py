"""post: summary.json of a finished run and the event that tells of it -> its comments on commit and pull request.

Everything about whom to tell comes from GitHub's event, nothing from the file, which anyone's code may have written.
GitHub is asked by its own command line, `gh api`.
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
"""The author of comments that are written with the token of a workflow; only its comments are updated."""

PAUSES = (2.0, 10.0, 60.0)
"""Seconds before each further try of what may pass: a server in trouble, or a rate limit."""

TEMPORARY = re.compile(r"HTTP (429|5\d\d)|rate limit|error connecting|timeout|connection re", re.IGNORECASE)
HINTS = {
    "401": "The token is wrong or has ended. In a workflow: GITHUB_TOKEN: ${{ github.token }}.",
    "403": "The token may not do this. The job needs 'pull-requests: write' for a pull request and 'contents: write' "
    "for a commit under 'permissions'.",
    "404": "There is no such thing, or the token may not see it. Check GITHUB_REPOSITORY (owner/name) and "
    "'permissions'.",
    "410": "Comments are turned off for it.",
    "422": "GitHub does not take what was sent; see its message.",
}


def find_pull_request(head: str, commit: str) -> int | None:
    """Return the number of the open pull request from `head` (owner:branch) whose newest commit is `commit`."""
    pulls = _list_items("pulls", "-f", "state=open", "-f", f"head={head}")
    return next((int(one["number"]) for one in pulls if one["head"]["sha"] == commit), None)


def put_comment(thread: str, comments: str, body: str) -> str:
    """Create or update the one comment of ours in a thread; return its address.

    Args:
        thread: path of the thread's comments, "issues/7/comments".
        comments: path of the comments of all such threads, "issues/comments".
    """
    for one in _list_items(thread):
        if MARKER in (one["body"] or "") and (one["user"] or {}).get("login") == BOT:
            if one["body"] == body:
                return str(one["html_url"])
            return _send_comment("PATCH", f"{comments}/{one['id']}", body)
    return _send_comment("POST", thread, body)


def _list_items(path: str, *query: str) -> list[dict[str, Any]]:
    pages = _call_api("GET", path, "--paginate", "--slurp", "-f", "per_page=100", *query)
    return [one for page in pages for one in page]


def _send_comment(method: str, path: str, body: str) -> str:
    return str(_call_api(method, path, "--input", "-", sent=json.dumps({"body": body}))["html_url"])


def _call_api(method: str, path: str, *options: str, sent: str = "") -> Any:
    """Return the answer of the API, after further tries where the problem may pass.

    Raises:
        ReportFailed: there is no answer, or a refusal.
    """
    command = ["gh", "api", f"repos/{os.environ['GITHUB_REPOSITORY']}/{path}", "--method", method, *options]
    for pause in (*PAUSES, None):
        try:
            ended = subprocess.run(command, input=sent, capture_output=True, text=True, env=_make_environment())
        except FileNotFoundError:
            raise ReportFailed("gh is not on PATH. Install GitHub's command line: https://cli.github.com") from None
        if ended.returncode == 0:
            return json.loads(ended.stdout)
        if pause is None or not TEMPORARY.search(ended.stderr):
            break
        time.sleep(pause)
    raise ReportFailed(f"{method} {path}: {_describe_problem(ended.stderr)}")


def _make_environment() -> dict[str, str]:
    """The environment for gh, which knows an own server of GitHub by these names."""
    token, server = os.environ["GITHUB_TOKEN"], os.environ.get("GITHUB_SERVER_URL") or "https://github.com"
    return {**os.environ, "GH_TOKEN": token, "GH_ENTERPRISE_TOKEN": token, "GH_HOST": urlsplit(server).netloc}


def _describe_problem(said: str) -> str:
    status = re.search(r"\(HTTP (\d+)\)", said)
    hint = "Run the job again later."
    if not TEMPORARY.search(said):
        hint = HINTS.get(status[1] if status else "", "Is GITHUB_SERVER_URL the address of the server?")
    return f"{said.strip()[:500]}. {hint}"


def post_comments(run: dict[str, Any], summary: Summary) -> list[str]:
    """Put the comment where it belongs; return a line for each place.

    Args:
        run: the part `workflow_run` of GitHub's event.
    """
    source, branch, commit = run["head_repository"], run["head_branch"], run["head_sha"]
    from_fork = source is None or source["full_name"] != os.environ["GITHUB_REPOSITORY"]
    body = render_comment(summary, Place(commit, run["html_url"], from_fork))
    lines = []
    if not from_fork:
        lines.append(f"commit: {put_comment(f'commits/{commit}/comments', 'comments', body)}")
    if source is None or branch is None:
        return [*lines, "no pull request: the branch is gone"]
    number = find_pull_request(f"{source['owner']['login']}:{branch}", commit)
    if number is None:
        return [*lines, f"no open pull request of {branch} ends with {commit[:10]}"]
    address = put_comment(f"issues/{number}/comments", "issues/comments", body)
    return [*lines, f"pull request {number}: {address}"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json")
    args = parser.parse_args(argv)
    needed = ("GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH")
    try:
        if missing := ", ".join(name for name in needed if not os.environ.get(name)):
            raise ReportFailed(f"{missing} must be set. To see the comment without posting it: make ci-report")
        summary = read_form(Summary, args.summary, MOST_BYTES)
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        print("\n".join(post_comments(event["workflow_run"], summary)))
    except ReportFailed as error:
        print(f"not posted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
