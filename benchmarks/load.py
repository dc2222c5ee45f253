"""load: keep a number of HTTP connections busy with one request, for as long as told -> statuses and latencies.

Client and server share the machine in these measurements, so a client must cost little: this one sends bytes that were
put together beforehand, and reads of an answer its status and its length.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import cast
from urllib.parse import urlsplit

import uvloop

END_OF_HEAD = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STATUS = slice(9, 12)
SECONDS_OF_PATIENCE = 60.0
"""How long the last answers may be waited for after the end was told; a server that hangs must not hang its caller."""

OnAnswer = Callable[[bytes, bytes], None]
"""Is given the head and the body of each answer."""


@dataclass
class Load:
    """What came back: the milliseconds of each answer, how many had which status, and connections that broke."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    @property
    def median_ms(self) -> float:
        return median(self.milliseconds)

    @property
    def p99_ms(self) -> float:
        return quantiles(self.milliseconds, n=100, method="inclusive")[98]

    @property
    def is_flawless(self) -> bool:
        return not self.lost and set(self.statuses) == {200}


def post(url: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Return the bytes of a POST request to /invocations of a server."""
    head = f"POST /invocations HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """Sends the request again as soon as it is answered, until `is_over`."""

    def __init__(self, request: bytes, load: Load, is_over: Callable[[], bool], on_answer: OnAnswer | None) -> None:
        self._request, self._load, self._is_over, self._on_answer = request, load, is_over, on_answer
        self._read = b""
        self._length = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._ask()

    def _ask(self) -> None:
        self._read, self._length = b"", 0
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._length:
            self._length = whole_length(self._read)
        if self._length and len(self._read) >= self._length:
            self._take()

    def _take(self) -> None:
        self._load.milliseconds.append((time.perf_counter() - self._began) * 1000)
        self._load.statuses[int(self._read[STATUS])] += 1
        if self._on_answer:
            head, _, body = self._read.partition(END_OF_HEAD)
            self._on_answer(head, body)
        if self._is_over():
            self._end()
        else:
            self._ask()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self._load.lost += 1
            self.ended.set_result(None)


def whole_length(read: bytes) -> int:
    """Return the bytes of a whole answer, head and body, or 0 while its head is incomplete.

    Raises:
        ValueError: an answer that does not say its length.
    """
    head = read.find(END_OF_HEAD)
    if head < 0:
        return 0
    found = LENGTH.search(read, 0, head)
    if not found:
        raise ValueError(f"an answer without Content-Length: {read[:200]!r}")
    return head + len(END_OF_HEAD) + int(found[1])


async def _drive(
    url: str, request: bytes, connections: int, is_over: Callable[[], bool], load: Load, on: OnAnswer | None
) -> None:
    loop = asyncio.get_running_loop()
    place = urlsplit(url)
    host, port = str(place.hostname), int(place.port or 80)
    opened = [
        (await loop.create_connection(lambda: Connection(request, load, is_over, on), host, port))[1]
        for _ in range(connections)
    ]
    while not is_over() and not all(one.ended.done() for one in opened):
        await asyncio.sleep(0.01)
    async with asyncio.timeout(SECONDS_OF_PATIENCE):
        await asyncio.gather(*(one.ended for one in opened))


def drive(
    url: str, request: bytes, connections: int, is_over: Callable[[], bool], on_answer: OnAnswer | None = None
) -> Load:
    """Keep the connections busy until `is_over`; each finishes the request it has sent.

    Raises:
        ConnectionError: nobody listens.
        TimeoutError: an answer does not come.
    """
    load = Load()
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_drive(url, request, connections, is_over, load, on_answer))
    load.seconds = time.perf_counter() - began
    return load


def drive_for(seconds: float, url: str, request: bytes, connections: int) -> Load:
    end = time.perf_counter() + seconds
    return drive(url, request, connections, lambda: time.perf_counter() >= end)
