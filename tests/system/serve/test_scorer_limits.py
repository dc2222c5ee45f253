"""Callers that send too much, too slowly or nothing: the scorer keeps memory and sockets for other callers."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psutil
import pytest

from tests.support.scoring_servers import Server, start_scorer
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion

HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
MB = 2**20
OPEN_FILES = 250
REQUEST_SECONDS = 2


@pytest.fixture(scope="module")
def running(versions: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Scorer with few file descriptors and two seconds per request."""
    versions.promote("1")
    folder = tmp_path_factory.mktemp("running")
    with start_scorer(folder, versions.name, wait=False, request_seconds=REQUEST_SECONDS) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
        wait_until(server.is_ready, f"the scorer answers; see {server.output}")
        yield server


def measure_megabytes(server: Server) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss / MB)


@pytest.mark.parametrize(
    ("start", "line"),
    [
        (HEAD, b"X-Filler: " + b"v" * 8000 + b"\r\n"),
        (HEAD + b"X-Filler: ", b"v" * 8000),
        (b"GET /", b"v" * 8000),
        (b"", b"\r\n" * 4000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 8000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 8000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"X-Filler: " + b"v" * 8000 + b"\r\n"),
        (b"", b"GET /ping HTTP/1.1\r\n\r\n" * 400),
    ],
    ids=["headers", "one header", "path", "empty lines", "chunk size", "chunk extension", "trailer", "pipelined"],
)
def test_a_request_without_an_end_is_cut_off(running: Server, start: bytes, line: bytes) -> None:
    before = measure_megabytes(running)
    with running.connect() as client:
        client.sendall(start)
        sent = send_until_closed(client, line)
    assert sent < 8 * MB  # the kernel's own buffers of both sides take a few MB
    assert measure_megabytes(running) < before + 20
    assert running.get("/ping").ok


def send_until_closed(client: socket.socket, line: bytes) -> int:
    """Send a line repeatedly until the connection is closed; return the number of bytes sent."""
    for count in range(40 * MB // len(line)):
        try:
            client.sendall(line)
        except ConnectionError:
            return count * len(line)
    return 40 * MB


def test_a_head_that_arrives_byte_by_byte_is_given_up(running: Server) -> None:
    start = time.monotonic()
    answer = b""
    with running.connect() as client:
        client.settimeout(0.2)
        for byte in HEAD * 100:
            client.sendall(bytes([byte]))
            with suppress(TimeoutError):
                answer = client.recv(4096)
                break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error_code"] == "HEAD_INCOMPLETE"
    assert time.monotonic() - start >= REQUEST_SECONDS


def test_a_body_that_does_not_end_is_given_up_and_holds_nobody_up(running: Server, versions: Champion) -> None:
    with running.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 99\r\n\r\n{")
        assert running.score(versions.split()).ok
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_unfinished_bodies_take_a_bounded_memory_together(running: Server, versions: Champion) -> None:
    before = measure_megabytes(running)
    with ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(running.connect())
            client.settimeout(0.2)
            with suppress(TimeoutError, ConnectionError):
                client.sendall(HEAD + b"Content-Length: 8000000\r\n\r\n" + b" " * 7_900_000)
        assert measure_megabytes(running) < before + 100
        assert running.score(versions.split()).ok
    wait_until(lambda: running.score(versions.split(5000)).ok, "large bodies are read again")


def test_silent_connections_do_not_keep_others_out(running: Server) -> None:
    with ExitStack() as stack:
        for _ in range(OPEN_FILES):
            stack.enter_context(running.connect())
        assert running.get("/ping").ok
    assert not running.events("fault")


def test_a_request_to_upgrade_is_answered_as_any_other(running: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    with running.connect() as client, running.connect() as silent:
        client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: %s==\r\n%s\r\n" % (b"a" * 22, upgrade))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert silent.recv(1) == b"", "the limits stay in force"
    assert "Traceback" not in running.output.read_text()
