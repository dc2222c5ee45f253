"""Middleware for every request: id, API key, time limit, log line, metrics, and the body of a refusal."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prediction_log.rows import is_request_id
from serve.errors import ModelFailed
from serve.http import metrics
from serve.http.event_log import log_event
from serve.http.refusals import Refusal, make_refusal
from serve.http.request_context import BODIES_AT_ONCE, CALL_KEY, CLIENT_GONE, BodyMemory, Call
from serve.model.servable import Servable
from serve.settings import ServeSettings

TRY_PATH, FORM_PATH = "/try", "/try/form"
OPEN_PATHS = {"/ping", "/health", "/version", "/docs", "/openapi.json", TRY_PATH}
"""Paths that need no API key. All others do, including paths that the router does not know."""

KNOWN_PATHS = {"/invocations", "/feedback", "/explain", "/metrics", FORM_PATH, *OPEN_PATHS}
MOST_DISCARDED = 8  # times max_body_mb; the body of a refused request is read and discarded up to this size
SECONDS_OF_SILENCE = 0.5  # a refused caller that sends nothing for this long is disconnected


def make_request_id() -> str:
    """Return a UUID of version 7 (RFC 9562), so that the log's index keeps ids of the same time together."""
    milliseconds = time.time_ns() // 1_000_000
    bits = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(UUID(int=bits))


def parse_request_id(header: str) -> str:
    """Return the caller's id if the prediction log and a response header can hold it, else ""."""
    return header if header.isascii() and is_request_id(header) else ""


class Guard:
    """ASGI application that wraps another one."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, key: str, model: Callable[[], Servable | None]) -> None:
        self.app = app
        self.settings = settings
        self.key = key.encode()
        self.model = model
        self.memory = BodyMemory(BODIES_AT_ONCE * settings.max_body_bytes, settings.request_seconds / 2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI defines it
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        caller_id = parse_request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        request_id = caller_id or make_request_id()
        # The response to /try has nothing of the model, not even its version.
        model = None if scope["path"] == TRY_PATH else self.model()
        call = Call(request_id, not caller_id, scope["path"], scope["method"], model, self.memory)
        scope[CALL_KEY] = call

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                added = ((b"x-request-id", call.request_id), (b"x-model-version", call.version))
                message["headers"] = [*message["headers"], *((name, value.encode()) for name, value in added)]
            await send(message)

        metrics.in_progress.inc()
        try:
            self._verify_key(headers, call)
            async with asyncio.timeout(self.settings.request_seconds):
                await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            call.trouble = {"error": "CLIENT_GONE"}
        except Exception as error:  # every error gets a response; _to_refusal logs those of the scorer
            await self._refuse(self._to_refusal(error, call), call, receive, send_with_headers)
        finally:
            self.memory.release(call.body_bytes)
            _log_request(call)

    def _verify_key(self, headers: dict[bytes, bytes], call: Call) -> None:
        if not self.key or call.path in OPEN_PATHS:
            return
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        key = headers.get(b"x-api-key") or (bearer.strip() if scheme.lower() == b"bearer" else b"")
        if not hmac.compare_digest(key, self.key):
            call.model = None  # so that the response does not have its version
            raise make_refusal("UNAUTHENTICATED")

    def _to_refusal(self, error: Exception, call: Call) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, ModelFailed):
            return make_refusal("MODEL_FAILED", reason=error)
        if isinstance(error, TimeoutError):
            code = "DEADLINE_EXCEEDED" if call.is_body_complete else "BODY_INCOMPLETE"
            return make_refusal(code, seconds=self.settings.request_seconds)
        trace = traceback.format_tb(error.__traceback__)
        log_event("fault", request_id=call.request_id, error=type(error).__name__, trace=trace)
        return make_refusal("INTERNAL_ERROR")

    async def _refuse(self, refusal: Refusal, call: Call, receive: Receive, send: Send) -> None:
        """Respond at once, then discard the rest of the body: most callers read only after they have sent it all."""
        call.trouble = {"error": refusal.code, **({"field": refusal.field} if refusal.field else {})}
        if call.status != CLIENT_GONE:  # the response has already started
            return
        has_more = not call.is_body_complete and call.method != "GET"
        # "close" asks the caller to stop sending.
        headers = {"connection": "close"} if has_more else {}
        if refusal.code == "OVERLOADED":
            headers["retry-after"] = "1"
        body = orjson.dumps(refusal.to_dict(request_id=call.request_id))
        response = Response(body, refusal.status, headers, "application/json")
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        seconds_left = self.settings.request_seconds - call.milliseconds / 1000
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds_left, 0)):
                while has_more and size <= self.settings.max_body_bytes * MOST_DISCARDED:
                    message = await asyncio.wait_for(receive(), SECONDS_OF_SILENCE)
                    size += len(message.get("body", b""))
                    has_more = message.get("more_body", False)
        await send({"type": "http.response.body"})


def _log_request(call: Call) -> None:
    """Count a finished request and write its log line."""
    metrics.in_progress.dec()
    path = call.path if call.path in KNOWN_PATHS else "other"
    metrics.requests.labels(path, str(call.status)).inc()
    metrics.seconds.labels(path).observe(call.milliseconds / 1000)
    if call.trouble:
        metrics.errors.labels(call.trouble["error"]).inc()
    log_event(
        "request",
        request_id=call.request_id,
        method=call.method,
        path=path,
        status=call.status,
        ms=round(call.milliseconds, 3),
        rows=call.rows,
        model_version=call.version,
        **call.trouble,
    )
