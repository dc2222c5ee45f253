"""Limits on connections: their number, their duration, and the bytes that they send outside of bodies.

uvicorn limits none of these. A caller that sends endless headers, half a request or nothing would occupy memory and
sockets until the scorer has none left for other callers.
"""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serve.http import metrics
from serve.http.refusals import Refusal, make_refusal
from serve.settings import load_handed_over_settings

MOST_HEAD_BYTES = 64 * 1024  # request line, headers and trailer together; proxies allow 8 to 32 KiB
MOST_CONNECTIONS = 2000
FEWEST_CONNECTIONS = 8
SPARE_FILES = 48  # file descriptors reserved for the log, the registry and the loading of a model
MOST_PIPELINED = 32  # requests sent without waiting for the responses to earlier ones; each takes a few KB
GRACE_SECONDS = 5.0  # after `request_seconds`, to send the response that reports the timeout
SECONDS_BETWEEN_CHECKS = 0.5


class Connections:
    """Connections of one server: those that wait for their caller, oldest first, and the highest number allowed."""

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.open: set[Any] = state.connections
        self.waiting: dict[Protocol, None] = {}
        self.most = compute_connection_limit()
        self.seconds = load_handed_over_settings().request_seconds
        self._loop = loop
        self._expire_connections()

    def mark_waiting(self, connection: Protocol) -> None:
        """Record that a connection now waits for its caller."""
        self.waiting.pop(connection, None)
        self.waiting[connection] = None

    def make_room(self) -> None:
        """Close the connection that has waited longest for its caller if too many are open."""
        if len(self.open) > self.most:
            self.close(next(iter(self.waiting)))

    def close(self, connection: Protocol) -> None:
        """Close a connection at once and count it in the metrics."""
        metrics.errors.labels("CONNECTION_CLOSED").inc()
        self.waiting.pop(connection, None)
        self.open.discard(connection)  # abort() reports the loss later; until then the connection would count as open
        connection.transport.abort()

    def _expire_connections(self) -> None:
        self._loop.call_later(SECONDS_BETWEEN_CHECKS, self._expire_connections)
        now = self._loop.time()
        for connection in [*self.open]:
            if connection.deadline < now:
                connection.expire()


def compute_connection_limit() -> int:
    """Return the highest number of connections that leaves `SPARE_FILES` file descriptors of the process free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    free = limit - len([*Path("/dev/fd").iterdir()]) - SPARE_FILES
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, free))


class Protocol(HttpToolsProtocol):
    """One connection: uvicorn's implementation of HTTP, with the limits above."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if not hasattr(server_state, "limits"):
            server_state.limits = Connections(server_state, self.loop)  # type: ignore[attr-defined]
        self.limits: Connections = server_state.limits  # type: ignore[attr-defined]
        self.deadline = 0.0
        self.in_head = False
        self.bytes_without_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit, and close another connection if too many are open."""
        super().connection_made(transport)
        self.deadline = self.loop.time() + self.limits.seconds
        self.limits.mark_waiting(self)
        self.limits.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.limits.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes; refuse the request once too many of them are outside of bodies."""
        self.bytes_without_body += len(data)
        super().data_received(data)
        if self.bytes_without_body > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(make_refusal("HEAD_TOO_LARGE", limit=MOST_HEAD_BYTES))

    def on_message_begin(self) -> None:
        """Start the time limit of a request; raise ValueError for too many pipelined requests."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many pipelined requests")  # the parser stops, and uvicorn responds with 400
        if self.cycle is None or self.cycle.response_complete:
            self.deadline = self.loop.time() + self.limits.seconds
        self.in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the request."""
        if self.in_head:  # ignores the fields of a trailer, which must not set the id, the type or the key
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Extend the time limit, within which the body and the response follow."""
        self.in_head = False
        self.deadline = self.loop.time() + self.limits.seconds + GRACE_SECONDS
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Reset the count of bytes outside of bodies."""
        self.bytes_without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Mark that the caller has sent its request."""
        self.bytes_without_body = 0
        self.limits.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request of the caller."""
        self.deadline = self.loop.time() + self.limits.seconds + GRACE_SECONDS
        self.limits.mark_waiting(self)
        super().on_response_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Print nothing: the request is handled like any other, and uvicorn's advice is about WebSockets."""

    def expire(self) -> None:
        """End a connection that has taken too long; respond first if it is still sending a request head."""
        if self.in_head and not self.transport.is_closing():
            self._refuse(make_refusal("HEAD_INCOMPLETE", seconds=self.limits.seconds))
            self.deadline = self.loop.time() + GRACE_SECONDS
        else:
            self.limits.close(self)

    def _refuse(self, refusal: Refusal) -> None:
        """Respond to a request without a complete head, which never reaches the application."""
        metrics.errors.labels(refusal.code).inc()
        body = orjson.dumps(refusal.to_dict())
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[refusal.status] + head + body)
        self.transport.close()
