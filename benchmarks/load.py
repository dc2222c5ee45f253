"""load: keep HTTP connections busy with one request until told to stop -> statuses and latencies.

Client and server share the machine in these measurements, so a client must cost little: this one sends bytes that were
put together beforehand, and reads only the status and the length of an answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles
from urllib.parse import urlsplit

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STATUS = slice(9, 12)
SECONDS_OF_PATIENCE = 60.0
"""How long to wait for the last answers: a server that hangs must not hang its caller."""

OnResponse = Callable[[bytes, bytes], object]
"""Is given the head and the body of each answer."""


@dataclass
class Load:
    """The milliseconds of each answer, how many had which status, and connections that broke."""

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


def build_post(url: str, body: bytes) -> bytes:
    """Return the bytes of a POST request with JSON to /invocations of a server."""
    head = f"POST /invocations HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def parse_length(head: bytes) -> int:
    """Return the length of the body in bytes; raises ValueError if the head of the answer does not say it."""
    length = LENGTH.search(head)
    if not length:
        raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
    return int(length[1])


async def _keep_busy(
    url: str, request: bytes, is_over: Callable[[], bool], load: Load, on_answer: OnResponse | None
) -> None:
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    try:
        while True:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(parse_length(head))
            load.milliseconds.append((time.perf_counter() - began) * 1000)
            load.statuses[int(head[STATUS])] += 1
            if on_answer:
                on_answer(head, body)
            if is_over():
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        load.lost += 1
    finally:
        writer.close()


def drive(
    url: str, request: bytes, connections: int, is_over: Callable[[], bool], on_answer: OnResponse | None = None
) -> Load:
    """Keep the connections busy until `is_over`; each finishes the request it has sent.

    Raises:
        ConnectionError: nobody listens.
        TimeoutError: an answer does not come.
    """
    load = Load()

    async def keep_all_busy() -> None:
        busy = [asyncio.ensure_future(_keep_busy(url, request, is_over, load, on_answer)) for _ in range(connections)]
        while not is_over() and not all(one.done() for one in busy):
            await asyncio.sleep(0.01)
        async with asyncio.timeout(SECONDS_OF_PATIENCE):
            await asyncio.gather(*busy)

    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(keep_all_busy())
    load.seconds = time.perf_counter() - began
    return load


def drive_for(seconds: float, url: str, request: bytes, connections: int) -> Load:
    end = time.perf_counter() + seconds
    return drive(url, request, connections, lambda: time.perf_counter() >= end)
