"""load: send the same request on several HTTP connections until stopped -> statuses and latencies.

Client and server share a machine in these measurements, so the client must need little CPU. It sends bytes that were
built beforehand, and of a response it reads only the status and the length.
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
"""Time limit for the last responses, so that a server that hangs does not block the measurement."""

OnResponse = Callable[[bytes, bytes], object]
"""Function that receives head and body of each response."""


@dataclass
class Load:
    """Latency of each response in milliseconds, number of responses per status, and number of lost connections."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Responses per second."""
        return len(self.milliseconds) / self.seconds

    @property
    def median_ms(self) -> float:
        """Median latency."""
        return median(self.milliseconds)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latency."""
        return quantiles(self.milliseconds, n=100, method="inclusive")[98]

    @property
    def is_flawless(self) -> bool:
        """True if every response has status 200 and no connection was lost."""
        return not self.lost and set(self.statuses) == {200}


def build_post(url: str, body: bytes) -> bytes:
    """Return the bytes of a POST request with JSON to /invocations of a server."""
    head = f"POST /invocations HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def parse_length(head: bytes) -> int:
    """Return the length of the body in bytes; raise ValueError if the head has no Content-Length."""
    length = LENGTH.search(head)
    if not length:
        raise ValueError(f"response without Content-Length: {head[:200]!r}")
    return int(length[1])


async def _keep_busy(
    url: str, request: bytes, is_over: Callable[[], bool], load: Load, on_response: OnResponse | None
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
            if on_response:
                on_response(head, body)
            if is_over():
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        load.lost += 1
    finally:
        writer.close()


def drive(
    url: str, request: bytes, connections: int, is_over: Callable[[], bool], on_response: OnResponse | None = None
) -> Load:
    """Send the request on all connections until `is_over`; requests already sent are completed.

    Raises:
        ConnectionError: the server does not accept connections.
        TimeoutError: a response is missing at the end.
    """
    load = Load()

    async def keep_all_busy() -> None:
        tasks = [
            asyncio.ensure_future(_keep_busy(url, request, is_over, load, on_response)) for _ in range(connections)
        ]
        while not is_over() and not all(task.done() for task in tasks):
            await asyncio.sleep(0.01)
        async with asyncio.timeout(SECONDS_OF_PATIENCE):
            await asyncio.gather(*tasks)

    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(keep_all_busy())
    load.seconds = time.perf_counter() - began
    return load


def drive_for(seconds: float, url: str, request: bytes, connections: int) -> Load:
    """Send the request on all connections for a number of seconds."""
    end = time.perf_counter() + seconds
    return drive(url, request, connections, lambda: time.perf_counter() >= end)
