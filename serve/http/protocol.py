"""Limits on connections: their number, the time that they may take, and the bytes they send that are not a body.

uvicorn bounds none of these. A client that sends endless headers, half a request or nothing at all would hold memory
and sockets until the scorer has none left for others.
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

MOST_HEAD_BYTES = 64 * 1024  # of all that is not a body: request line, headers, trailer. Proxies allow 8 to 32 KiB
MOST_CONNECTIONS = 2000
FEWEST_CONNECTIONS = 8
SPARE_FILES = 48  # descriptors left for the log, the registry and a model that is loaded
MOST_PIPELINED = 32  # requests that a client sends before the earlier ones are answered; each takes a few KB
GRACE_SECONDS = 5.0  # after `request_seconds`, to send the response that reports the time-out
SECONDS_BETWEEN_LOOKS = 0.5


class Connections:
    """The connections of one server: those that wait for their client, oldest first, and how many may be open."""

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.open: set[Any] = state.connections
        self.waiting: dict[Protocol, None] = {}
        self.most = compute_connection_limit()
        self.seconds = load_handed_over_settings().request_seconds
        self._loop = loop
        self._expire_connections()

    def mark_waiting(self, connection: Protocol) -> None:
        """Note that a connection waits for its client from now on."""
        self.waiting.pop(connection, None)
        self.waiting[connection] = None

    def make_room(self) -> None:
        """Close the connection that has waited longest for its client if there are too many."""
        if len(self.open) > self.most:
            self.close(next(iter(self.waiting)))

    def close(self, connection: Protocol) -> None:
        """Close a connection at once, and count it."""
        metrics.errors.labels("CONNECTION_CLOSED").inc()
        self.waiting.pop(connection, None)
        self.open.discard(connection)  # abort() reports the loss later, and until then it would count
        connection.transport.abort()

    def _expire_connections(self) -> None:
        self._loop.call_later(SECONDS_BETWEEN_LOOKS, self._expire_connections)
        now = self._loop.time()
        for connection in [*self.open]:
            if connection.deadline < now:
                connection.expire()


def compute_connection_limit() -> int:
    """Return how many connections may be open, so that `SPARE_FILES` descriptors of the process stay free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    free = limit - len([*Path("/dev/fd").iterdir()]) - SPARE_FILES
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, free))


class Protocol(HttpToolsProtocol):
    """One connection: uvicorn's own handling of HTTP within the limits above."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if not hasattr(server_state, "limits"):
            server_state.limits = Connections(server_state, self.loop)  # type: ignore[attr-defined]
        self.limits: Connections = server_state.limits  # type: ignore[attr-defined]
        self.deadline = 0.0
        self.in_head = False
        self.bytes_without_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadline = self.loop.time() + self.limits.seconds
        self.limits.mark_waiting(self)
        self.limits.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.bytes_without_body += len(data)
        super().data_received(data)
        if self.bytes_without_body > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(make_refusal("HEAD_TOO_LARGE", limit=MOST_HEAD_BYTES))

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests at once")  # the parser stops, and uvicorn answers 400
        if self.cycle is None or self.cycle.response_complete:
            self.deadline = self.loop.time() + self.limits.seconds
        self.in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # a field of a trailer is not a header: it sets no id, no type and no key
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.deadline = self.loop.time() + self.limits.seconds + GRACE_SECONDS
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.bytes_without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.bytes_without_body = 0
        self.limits.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.deadline = self.loop.time() + self.limits.seconds + GRACE_SECONDS
        self.limits.mark_waiting(self)
        super().on_response_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Print nothing: the request is answered as any other, and uvicorn's advice is about WebSockets."""

    def expire(self) -> None:
        """End a connection that has taken too long; one that sends a head gets a response first."""
        if self.in_head and not self.transport.is_closing():
            self._refuse(make_refusal("HEAD_INCOMPLETE", seconds=self.limits.seconds))
            self.deadline = self.loop.time() + GRACE_SECONDS
        else:
            self.limits.close(self)

    def _refuse(self, refused: Refusal) -> None:
        """Answer a request that has no head, and so never reaches the application."""
        metrics.errors.labels(refused.code).inc()
        body = orjson.dumps(refused.body())
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[refused.status] + head + body)
        self.transport.close()
