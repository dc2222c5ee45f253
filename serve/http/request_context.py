"""What is known of one request while it is answered, and its body, whose memory is bounded."""

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
BODIES_AT_ONCE = 4  # of the largest size, in memory together; further ones wait for one of these to be answered
SMALL_BODY = 64 * 1024  # bytes; such a body does not wait: a few rows are answered while others send large tables


class BodyMemory:
    """Bytes that the large bodies of unfinished requests may hold together."""

    def __init__(self, size: int, patience: float) -> None:
        self.free = size
        self.patience = patience
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, size: int) -> None:
        """Take `size` bytes as soon as they are free; raise Refusal if they are not within `patience` seconds."""
        try:
            async with asyncio.timeout(self.patience):
                while self.free < size:
                    self._waiting.append(asyncio.get_running_loop().create_future())
                    await self._waiting[-1]
        except TimeoutError:
            raise make_refusal("OVERLOADED") from None
        self.free -= size

    def release(self, size: int) -> None:
        self.free += size
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


@dataclass
class Call:
    """One request; `fresh`: its id was made here and is not the client's; `trouble`: error and field of a refusal."""

    request_id: str
    fresh: bool
    path: str
    method: str
    model: Servable | None
    memory: BodyMemory
    arrived: float = field(default_factory=time.perf_counter)
    body_bytes: int = 0
    rows: int = 0
    status: int = CLIENT_GONE
    body_complete: bool = False
    trouble: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.model.version if self.model else ""

    @property
    def milliseconds(self) -> float:
        return (time.perf_counter() - self.arrived) * 1000


def get_call(request: Request) -> Call:
    call: Call = request.scope[CALL_KEY]
    return call


async def read_body(request: Request, limit: int) -> bytes:
    """Return the whole body; raise Refusal if it is larger than `limit` bytes, or announced so."""
    call = get_call(request)
    chunks: list[bytes] = []
    size = 0
    announced = int(request.headers.get("content-length", 0))  # the parser takes only digits
    if announced > limit:
        raise make_refusal("BODY_TOO_LARGE", limit=limit)
    await _reserve_memory(call, announced)
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise make_refusal("BODY_TOO_LARGE", limit=limit)
        if size > max(call.body_bytes, SMALL_BODY):
            await _reserve_memory(call, limit)  # its size was not announced
        chunks.append(chunk)
    call.body_complete = True
    return b"".join(chunks)


async def _reserve_memory(call: Call, size: int) -> None:
    """Reserve memory for a large body until its request is finished."""
    if size > max(call.body_bytes, SMALL_BODY):
        await call.memory.reserve(size)
        call.body_bytes = size


def parse_media_type(header: str | None, accepted: Collection[str]) -> str:
    """Return the type of a body in small letters; case, spaces and quotes of the header change nothing.

    Raises Refusal (415) where there is no header, or another type, charset or parameter in it.
    """
    kind, *parameters = (header or "").lower().split(";")
    named = [tuple(part.strip(' \t"') for part in parameter.split("=", 1)) for parameter in parameters]
    if kind.strip() in accepted and {*named} <= {("charset", "utf-8"), ("charset", "utf8"), ("",)}:
        return kind.strip()
    found = f"'{header[:80]}'" if header else "none"
    raise make_refusal("UNSUPPORTED_MEDIA_TYPE", found=found, expected=" or ".join(accepted))
