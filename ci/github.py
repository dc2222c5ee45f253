"""The few calls of GitHub's REST API that a report needs: find a pull request; find, create, update a comment.

Source: GitHub REST API, version 2022-11-28 (pulls, issue comments, commit comments, rate limits).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_after_attempt

from ci.errors import ReportFailed

TRIES = 5
LONGEST_WAIT_SECONDS = 90.0
"""A limit that lasts longer is told instead of waited for; a job that waits costs minutes."""

SECONDS_FOR_AN_ANSWER = 30
PER_PAGE = 100
BOT = "github-actions[bot]"
"""Who writes with the token of a workflow. Only its comments are updated: anyone can type a marker."""

HINTS = {
    401: "The token is wrong or has ended. In a workflow: GITHUB_TOKEN: ${{ github.token }}.",
    403: "The token may not do this. The job needs 'pull-requests: write' for a pull request and 'contents: write' for "
    "a commit under 'permissions'.",
    404: "There is no such thing, or the token may not see it. Check GITHUB_REPOSITORY (owner/name) and 'permissions'.",
    410: "Comments are turned off for it.",
    422: "GitHub does not take what was sent; see its message.",
}


class Passing(Exception):
    """An answer that another try may better; `wait` is how long GitHub asks to wait for it, in seconds."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


@dataclass(frozen=True)
class GitHub:
    """One repository at GitHub's API.

    Attributes:
        api: address of the API, https://api.github.com or that of an own server.
        repository: owner/name.
        token: never part of a message or of repr().
        pause: seconds before the second try, doubled before each further one.
    """

    api: str
    repository: str
    token: str = field(repr=False)
    author: str = BOT
    pause: float = 1.0

    def open_pull(self, head: str, commit: str) -> int | None:
        """Return the number of the open pull request from `head` (owner:branch) whose newest commit is `commit`."""
        found = self._pages("/pulls", state="open", head=head)
        return next((int(one["number"]) for one in found if one["head"]["sha"] == commit), None)

    def comment_on_pull(self, number: int, marker: str, body: str) -> str:
        """Create or update the one comment with `marker` on a pull request; return its address."""
        return self._put(f"/issues/{number}/comments", "/issues/comments", marker, body)

    def comment_on_commit(self, commit: str, marker: str, body: str) -> str:
        """Create or update the one comment with `marker` on a commit; return its address."""
        return self._put(f"/commits/{commit}/comments", "/comments", marker, body)

    def _put(self, among: str, single: str, marker: str, body: str) -> str:
        for one in self._pages(among):
            if marker in (one.get("body") or "") and (one.get("user") or {}).get("login") == self.author:
                if one["body"] == body:
                    return str(one["html_url"])
                return str(self._call("PATCH", f"{single}/{one['id']}", json={"body": body}).json()["html_url"])
        return str(self._call("POST", among, json={"body": body}).json()["html_url"])

    def _pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        # by number: the next page's address comes from the answer, and the token goes nowhere but to `api`
        page, more = 0, True
        while more:
            page += 1
            answer = self._call("GET", path, params={**query, "per_page": str(PER_PAGE), "page": str(page)})
            yield from answer.json()
            more = "next" in answer.links

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        again = Retrying(
            stop=stop_after_attempt(TRIES), retry=retry_if_exception_type(Passing), wait=self._wait, sleep=time.sleep
        )
        try:
            return again(self._once, method, path, **options)
        except RetryError as error:
            raise ReportFailed(
                f"{method} {self._shown(path)} failed on each of {TRIES} tries; the last: "
                f"{error.last_attempt.exception()}. Run the job again later."
            ) from None

    def _once(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        address = f"{self.api.rstrip('/')}/repos/{self.repository}{path}"
        try:
            answer = requests.request(
                method, address, headers=headers, timeout=SECONDS_FOR_AN_ANSWER, allow_redirects=False, **options
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Passing(f"no answer ({type(error).__name__})") from None
        if answer.status_code >= 300:
            self._complain(method, path, answer)
        return answer

    def _complain(self, method: str, path: str, answer: requests.Response) -> None:
        wait = seconds_to_wait(answer)
        what = f"{answer.status_code} {_message(answer)}"
        if wait is not None and wait > LONGEST_WAIT_SECONDS:
            raise ReportFailed(f"{method} {self._shown(path)}: rate limit for {wait:.0f} s more. Run the job then.")
        if wait is not None or answer.status_code >= 500:
            raise Passing(what, wait)
        hint = HINTS.get(answer.status_code, "Is GITHUB_API_URL the address of the API?")
        raise ReportFailed(f"{method} {self._shown(path)}: {what}. {hint}")

    def _shown(self, path: str) -> str:
        return f"/repos/{self.repository}{path}"

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, Passing) else None
        return asked if asked is not None else float(self.pause * 2 ** (state.attempt_number - 1))


def seconds_to_wait(answer: requests.Response) -> float | None:
    """Return how long a rate limit asks to wait; None for an answer that is no rate limit, or does not say."""
    if answer.status_code not in (403, 429) and answer.status_code < 500:
        return None
    after = answer.headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    if answer.headers.get("X-RateLimit-Remaining") == "0" and answer.headers.get("X-RateLimit-Reset", "").isdigit():
        return max(0.0, float(answer.headers["X-RateLimit-Reset"]) - time.time())
    return 60.0 if answer.status_code == 429 else None


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json().get("message", ""))[:300]
    except (ValueError, AttributeError):
        return str(answer.reason)
