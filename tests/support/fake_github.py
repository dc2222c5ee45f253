"""A real HTTP server with the endpoints of GitHub's API that ci/github.py calls, and their faults on demand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.servers import LoopbackServer

REPOSITORY = "someone/credit"
BOT = "github-actions[bot]"
LONGEST_BODY = 65_536


@dataclass
class Answer:
    """What is answered instead of the real thing, once."""

    status: int
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class StandIn(LoopbackServer):
    """Keeps pull requests and comments; `next_answers` are given first, one a request.

    Attributes:
        comments: by the path that lists them, e.g. "issues/7/comments".
        asked: method and path of every request.
        authorization: that header of every request.
    """

    token: str
    pulls: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    next_answers: list[Answer] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    authorization: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self._handler())

    @property
    def url(self) -> str:
        return self.address

    def add(self, place: str, body: str, author: str = BOT) -> dict[str, Any]:
        everything = [one for kept in self.comments.values() for one in kept]
        number = len(everything) + 1
        one = {"id": number, "body": body, "user": {"login": author}, "html_url": f"{self.url}/{place}#{number}"}
        self.comments.setdefault(place, []).append(one)
        return one

    def answer(self, method: str, path: str, query: dict[str, list[str]], sent: Any) -> tuple[int, Any, dict[str, str]]:
        """Return status, body and headers as GitHub's API would."""
        if method == "GET":
            found = self._pulls(query) if path == "pulls" else self.comments.get(path, [])
            return self._page(found, path, query)
        if len(sent["body"]) > LONGEST_BODY:
            return 422, {"message": "Validation Failed: body is too long (maximum is 65536 characters)"}, {}
        if method == "POST" and re.fullmatch(r"(issues/\d+|commits/[0-9a-f]{40})/comments", path):
            return 201, self.add(path, sent["body"]), {}
        if method == "PATCH" and (single := re.fullmatch(r"(issues/)?comments/(\d+)", path)):
            return self._update(single[1] or "commits/", int(single[2]), sent["body"])
        return 404, {"message": "Not Found"}, {}

    def _pulls(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        return [one for one in self.pulls if one["state"] == query["state"][0] and one["label"] == query["head"][0]]

    def _page(
        self, found: list[dict[str, Any]], path: str, query: dict[str, list[str]]
    ) -> tuple[int, Any, dict[str, str]]:
        size, page = int(query["per_page"][0]), int(query["page"][0])
        more = len(found) > page * size
        link = f'<{self.url}/repos/{REPOSITORY}/{path}?page={page + 1}>; rel="next"'
        return 200, found[(page - 1) * size : page * size], {"Link": link} if more else {}

    def _update(self, kind: str, number: int, body: str) -> tuple[int, Any, dict[str, str]]:
        for place, kept in self.comments.items():
            for one in kept:
                if one["id"] == number and place.startswith(kind):
                    one["body"] = body
                    return 200, one, {}
        return 404, {"message": "Not Found"}, {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                sent = json.loads(self.rfile.read(length)) if length else None
                parts = urlsplit(self.path)
                path = parts.path.removeprefix(f"/repos/{REPOSITORY}/")
                server.asked.append(f"{self.command} {path}")
                server.authorization.append(self.headers.get("Authorization", ""))
                self._send(*self._choose(path, parts.query, sent))

            do_GET = do_POST = do_PATCH = _do

            def _choose(self, path: str, query: str, sent: Any) -> tuple[int, Any, dict[str, str]]:
                if server.next_answers:
                    given = server.next_answers.pop(0)
                    return given.status, {"message": given.message}, given.headers
                if self.headers.get("Authorization") != f"Bearer {server.token}":
                    return 401, {"message": "Bad credentials"}, {}
                if path.startswith("/"):
                    return 404, {"message": "Not Found"}, {}
                return server.answer(self.command, path, parse_qs(query), sent)

            def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
