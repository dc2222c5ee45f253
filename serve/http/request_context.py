"""State of one request while it is handled, and its body, for which memory is limited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from starlette.requests import Request

from serve.http.refusals import REFUSALS, make_refusal
from serve.model.servable import Servable

JSON = "application/json"
CALL_KEY = "scorer.call"
CLIENT_GONE, *_ = REFUSALS["CLIENT_GONE"]
BODIES_AT_ONCE = 4  # bodies of the largest size in memory; further ones wait until one of these requests is finished
SMALL_BODY = 64 * 1024  # bytes; up to this size a body never waits, so that a few rows are scored between large tables


class BodyMemory:
    """Number of bytes that the large bodies of all unfinished requests may use together."""

    def __init__(self, size: int, wait_seconds: float) -> None:
        self.free = size
        self.wait_seconds = wait_seconds
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, size: int) -> None:
        """Reserve `size` bytes once they are free; raise Refusal (503) after `wait_seconds`."""
        try:
            async with asyncio.timeout(self.wait_seconds):
                while self.free < size:
                    self._waiting.append(asyncio.get_running_loop().create_future())
                    await self._waiting[-1]
        except TimeoutError:
            raise make_refusal("OVERLOADED") from None
        self.free -= size

    def release(self, size: int) -> None:
        """Free `size` bytes and wake the requests that wait for memory."""
        self.free += size
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


@dataclass
class Call:
    """State of one request.

    Attributes:
        is_new_id: True if the scorer made `request_id`, False if the caller sent it.
        trouble: `error` (the code) and `field` of a refusal; empty without one.
    """

    request_id: str
    is_new_id: bool
    path: str
    method: str
    model: Servable | None
    memory: BodyMemory
    arrived: float = field(default_factory=time.perf_counter)
    body_bytes: int = 0
    rows: int = 0
    status: int = CLIENT_GONE
    is_body_complete: bool = False
    trouble: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Version of the model; "" without a model."""
        return self.model.version if self.model else ""

    @property
    def milliseconds(self) -> float:
        """Time since the request arrived."""
        return (time.perf_counter() - self.arrived) * 1000


def get_call(request: Request) -> Call:
    """Return the state of a request, which Guard has attached to it."""
    call: Call = request.scope[CALL_KEY]
    return call


async def read_body(request: Request, limit: int) -> bytes:
    """Return the whole body; raise Refusal (413) if it, or its Content-Length, exceeds `limit` bytes."""
    call = get_call(request)
    chunks: list[bytes] = []
    size = 0
    announced = int(request.headers.get("content-length", 0))  # the parser accepts only digits
    if announced > limit:
        raise make_refusal("BODY_TOO_LARGE", limit=limit)
    await _reserve_memory(call, announced)
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise make_refusal("BODY_TOO_LARGE", limit=limit)
        if size > max(call.body_bytes, SMALL_BODY):
            await _reserve_memory(call, limit)  # without Content-Length, assume the largest size
        chunks.append(chunk)
    call.is_body_complete = True
    return b"".join(chunks)


async def _reserve_memory(call: Call, size: int) -> None:
    """Reserve memory for a large body until the request is finished."""
    if size > max(call.body_bytes, SMALL_BODY):
        await call.memory.reserve(size)
        call.body_bytes = size


def parse_media_type(header: str | None, accepted: Collection[str]) -> str:
    """Return the media type of a Content-Type header in lower case, without spaces and quotes.

    Raises Refusal (415) if the header is missing, or names another type, charset or parameter.
    """
    kind, *parameters = (header or "").lower().split(";")
    pairs = [tuple(part.strip(' \t"') for part in parameter.split("=", 1)) for parameter in parameters]
    if kind.strip() in accepted and {*pairs} <= {("charset", "utf-8"), ("charset", "utf8"), ("",)}:
        return kind.strip()
    value = f"'{header[:80]}'" if header else "none"
    raise make_refusal("UNSUPPORTED_MEDIA_TYPE", found=value, expected=" or ".join(accepted))
