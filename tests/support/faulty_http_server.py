"""A real HTTP server on a free port, whose behaviour depends on the path: /BEHAVIOUR/FILE, e.g. /cut/raw.csv."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support.servers import LoopbackServer

PAGE = b"<!DOCTYPE html>\n<html><body>Please sign in to see this file.</body></html>\n"
PIECES = 15
SECONDS_BETWEEN_PIECES = 0.1


class FaultyServer(LoopbackServer):
    """Context manager that serves `files` (bytes by name) and counts the requests for each path.

    Behaviours: good, missing (404), forbidden (403), broken (500), broken_twice (then good), page (HTML with status
    200), cut and cut_once (half of the file, then the connection closes), stall and stall_once (half of the file, then
    nothing), slow (in small pieces with pauses), wrong_type (Content-Type of an image), redirect (to good),
    circle (redirects to itself), part (206 with half of the file), nothing (204), unchanged (304), gzipped
    (Content-Encoding: gzip for a file that is already compressed), etag and dated (good, with the headers ETag or
    Last-Modified). Only these two support HEAD, which is not counted.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.closing = threading.Event()
        super().__init__(self._handler())

    def __exit__(self, *error: object) -> None:
        self.closing.set()  # releases the stalled requests, for which the shutdown waits
        super().__exit__(*error)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path.lstrip("/")
                behaviour, _, name = path.partition("/")
                server.asked[path] += 1
                BEHAVIOURS[behaviour](server, self, name, server.asked[path])

            def do_HEAD(self) -> None:
                behaviour, _, name = urlsplit(self.path).path.lstrip("/").partition("/")
                if behaviour not in VERSIONS:
                    self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
                    return
                _head(self, len(server.files[name]), **VERSIONS[behaviour](server.files[name]))

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing, because the requests are counted."""

        return Handler


Behaviour = Callable[[FaultyServer, BaseHTTPRequestHandler, str, int], None]


def _head(request: BaseHTTPRequestHandler, length: int, **headers: str) -> None:
    request.send_response(HTTPStatus.OK)
    request.send_header("Content-Length", str(length))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def good(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    body = server.files[name]
    _head(request, len(body), Content_Type="text/csv")
    request.wfile.write(body)


def missing(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_error(HTTPStatus.NOT_FOUND)


def forbidden(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_error(HTTPStatus.FORBIDDEN)


def broken(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)


def broken_twice(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    (broken if time <= 2 else good)(server, request, name, time)


def page(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    _head(request, len(PAGE), Content_Type="text/html")
    request.wfile.write(PAGE)


def cut(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    body = server.files[name]
    _head(request, len(body))
    request.wfile.write(body[: len(body) // 2])
    request.close_connection = True


def cut_once(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    (cut if time == 1 else good)(server, request, name, time)


def stall(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    cut(server, request, name, time)
    server.closing.wait()


def stall_once(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    (stall if time == 1 else good)(server, request, name, time)


def slow(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    body = server.files[name]
    _head(request, len(body))
    step = len(body) // PIECES + 1
    for start in range(0, len(body), step):
        request.wfile.write(body[start : start + step])
        server.closing.wait(SECONDS_BETWEEN_PIECES)


def wrong_type(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    body = server.files[name]
    _head(request, len(body), Content_Type="image/png", Content_Disposition="attachment")
    request.wfile.write(body)


def redirect(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_response(HTTPStatus.FOUND)
    request.send_header("Location", server.url(f"good/{name}"))
    request.send_header("Content-Length", "0")
    request.end_headers()


def circle(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_response(HTTPStatus.FOUND)
    request.send_header("Location", server.url(f"circle/{name}"))
    request.send_header("Content-Length", "0")
    request.end_headers()


def part(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    """Send the first half of the file, up to the end of a line, with status 206 and a correct Content-Range."""
    body = server.files[name]
    half = body[: body.rindex(b"\n", 0, len(body) // 2) + 1]
    request.send_response(HTTPStatus.PARTIAL_CONTENT)
    request.send_header("Content-Range", f"bytes 0-{len(half) - 1}/{len(body)}")
    request.send_header("Content-Length", str(len(half)))
    request.end_headers()
    request.wfile.write(half)


def nothing(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_response(HTTPStatus.NO_CONTENT)
    request.end_headers()


def unchanged(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    request.send_response(HTTPStatus.NOT_MODIFIED)
    request.end_headers()


def gzipped(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    """Send a .gz file as compressed transport, as some servers do, so that the client decompresses it."""
    body = server.files[name]
    _head(request, len(body), Content_Encoding="gzip")
    request.wfile.write(body)


def etag(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    good(server, request, name, time)


def dated(server: FaultyServer, request: BaseHTTPRequestHandler, name: str, time: int) -> None:
    good(server, request, name, time)


VERSIONS: dict[str, Callable[[bytes], dict[str, str]]] = {
    "etag": lambda body: {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'},
    # One day for each byte, so that another length gives another date.
    "dated": lambda body: {"Last_Modified": formatdate(86_400 * (len(body) % 20_000), usegmt=True)},
}

BEHAVIOURS: dict[str, Behaviour] = {
    behaviour.__name__: behaviour
    for behaviour in (
        *(good, missing, forbidden, broken, broken_twice, page, cut, cut_once),
        *(stall, stall_once, slow, wrong_type, redirect, circle, part, nothing, unchanged),
        *(gzipped, etag, dated),
    )
}
