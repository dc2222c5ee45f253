"""Around every request: its id, the API key, the time limit, one log line, the metrics, and a body for each refusal."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prediction_log.rows import is_request_id
from serve.errors import ModelFailed, Refusal, body_too_slow, no_key, too_large, too_slow
from serve.http import metrics
from serve.http.body_limits import BODIES_AT_ONCE, SMALL_BODY, BodyMemory
from serve.http.event_log import note
from serve.settings import ServeSettings

CALL = "scorer.call"
OPEN = {"/ping", "/health", "/version", "/docs", "/openapi.json"}
"""What is answered without the key; all else needs it, whatever the router makes of the path."""

KNOWN = {"/invocations", "/feedback", "/metrics", *OPEN}
CLIENT_GONE = 499
"""The status that logs show for a client that hung up, after nginx; nobody receives it."""

MOST_DISCARDED = 8
"""The body of a refused request is discarded up to this many times the limit."""

SECONDS_OF_SILENCE = 0.5
"""A refused client that sends nothing for so long does not send the rest of its body, and is disconnected."""


@dataclass
class Call:
    """What is known of one request while it is answered; `fresh`: its id was made here, and is no client's."""

    request_id: str
    fresh: bool
    arrived: float
    path: str
    method: str
    version: str
    memory: BodyMemory
    body_bytes: int = 0
    rows: int = 0
    status: int = CLIENT_GONE
    body_complete: bool = False
    error: str = ""
    field: str = ""

    @property
    def milliseconds(self) -> float:
        return (time.perf_counter() - self.arrived) * 1000


def call_of(request: Request) -> Call:
    call: Call = request.scope[CALL]
    return call


def new_id() -> str:
    """Return a UUID of version 7: ids of one time lie beside each other in the log's index."""
    milliseconds = time.time_ns() // 1_000_000
    bits = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(UUID(int=bits))


def id_from(given: str) -> str:
    """Return the caller's id if the prediction log takes it and a header can carry it back, else ""."""
    return given if given.isascii() and is_request_id(given) else ""


async def read_body(request: Request, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        Refusal: larger than `limit` bytes, or announced so.
    """
    call = call_of(request)
    chunks: list[bytes] = []
    size = 0
    announced = int(request.headers.get("content-length", 0))  # the parser takes only digits
    if announced > limit:
        raise too_large(limit)
    await _hold(call, announced)
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        if size > max(call.body_bytes, SMALL_BODY):
            await _hold(call, limit)  # its size was not announced
        chunks.append(chunk)
    call.body_complete = True
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _hold(call: Call, size: int) -> None:
    """Reserve memory for a large body until its request is finished."""
    if size > max(call.body_bytes, SMALL_BODY):
        await call.memory.take(size)
        call.body_bytes = size


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, key: str, version: Callable[[], str]) -> None:
        self.app = app
        self.settings = settings
        self.key = key.encode()
        self.version = version
        self.memory = BodyMemory(BODIES_AT_ONCE * settings.max_body_bytes, settings.request_seconds / 2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = id_from(headers.get(b"x-request-id", b"").decode("latin-1"))
        call = Call(
            given or new_id(),
            not given,
            time.perf_counter(),
            scope["path"],
            scope["method"],
            self.version(),
            self.memory,
        )
        scope[CALL] = call

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                marks = ((b"x-request-id", call.request_id), (b"x-model-version", call.version))
                message["headers"] = [*message["headers"], *((name, value.encode()) for name, value in marks)]
            await send(message)

        metrics.in_progress.inc()
        try:
            await self._answer(scope, receive, send_marked, headers, call)
        finally:
            self.memory.give_back(call.body_bytes)
            _account_for(call)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], call: Call
    ) -> None:
        try:
            self._expect_key(headers, call)
            async with asyncio.timeout(self.settings.request_seconds):
                await self.app(scope, receive, send)
        except ClientDisconnect:
            call.error = "CLIENT_GONE"
        except Exception as error:  # a client gets an answer to everything; what is our own fault is logged in full
            refusal = self._refusal(error, call)
            call.error, call.field = refusal.code, refusal.field
            if call.status == CLIENT_GONE:  # no answer has begun
                await self._respond(_response(refusal, call), call, receive, send)

    async def _respond(self, response: Response, call: Call, receive: Receive, send: Send) -> None:
        """Send a refusal at once; discard the rest of the body, since most clients listen only after they have sent."""
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        seconds_left = self.settings.request_seconds - call.milliseconds / 1000
        size, more = 0, not call.body_complete and call.method != "GET"
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds_left, 0)):
                while more and size <= self.settings.max_body_bytes * MOST_DISCARDED:
                    message = await asyncio.wait_for(receive(), SECONDS_OF_SILENCE)
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)
        await send({"type": "http.response.body"})

    def _refusal(self, error: Exception, call: Call) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, ModelFailed):
            return Refusal(500, "MODEL_FAILED", str(error), "")
        if isinstance(error, TimeoutError):
            seconds = self.settings.request_seconds
            return too_slow(seconds) if call.body_complete else body_too_slow(seconds)
        note(
            "fault",
            request_id=call.request_id,
            error=type(error).__name__,
            trace=traceback.format_tb(error.__traceback__),
        )
        return Refusal(500, "INTERNAL_ERROR", "the scorer failed; its log has the cause, by this request id.", "")

    def _expect_key(self, headers: dict[bytes, bytes], call: Call) -> None:
        if not self.key or call.path in OPEN:
            return
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = headers.get(b"x-api-key") or (bearer.strip() if scheme.lower() == b"bearer" else b"")
        if not hmac.compare_digest(given, self.key):
            raise no_key()


def _response(refusal: Refusal, call: Call) -> Response:
    # the rest of the body is discarded: let the client stop sending it
    headers = {} if call.body_complete or call.method == "GET" else {"connection": "close"}
    if refusal.retry_after:
        headers["retry-after"] = str(refusal.retry_after)
    return Response(orjson.dumps(refusal.body(request_id=call.request_id)), refusal.status, headers, "application/json")


def _account_for(call: Call) -> None:
    """Count the request and write its log line."""
    metrics.in_progress.dec()
    path = call.path if call.path in KNOWN else "other"
    metrics.requests.labels(path, str(call.status)).inc()
    metrics.seconds.labels(path).observe(call.milliseconds / 1000)
    if call.error:
        metrics.errors.labels(call.error).inc()
    trouble = {name: value for name, value in (("error", call.error), ("field", call.field)) if value}
    note(
        "request",
        request_id=call.request_id,
        method=call.method,
        path=path,
        status=call.status,
        ms=round(call.milliseconds, 3),
        rows=call.rows,
        model_version=call.version,
        **trouble,
    )
