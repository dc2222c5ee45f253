"""Real faults of a busy scorer: kills, changes of the champion, malformed bodies, and callers that hold connections.

SCORER_FAULTS=full in the environment runs the long form: 50 kills, 200 swaps, 10,000 bodies.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.load import build_post, drive
from tests.support.scoring_requests import CSV, FORMATS, JSON, to_csv, to_split
from tests.support.scoring_servers import Server, start_scorer
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion

FULL = os.environ.get("SCORER_FAULTS") == "full"
KILLS, SWAPS, BODIES = (50, 200, 10_000) if FULL else (3, 4, 400)
ROWS = 2
CONNECTIONS = 8
RESPONSES_BEFORE_A_KILL = 150
IDLE, SLOW, DEAF = 1000, 100, 10
"""Connections that send nothing, that never finish their request, and that never read their response."""

ROWS_OF_A_LARGE_RESPONSE = 2000
OTHER_REQUESTS = 100
MOST_GROWTH = 0.15
"""Largest growth of memory from the first half of the malformed bodies to the second."""


def build_body(trained: Champion, rows: int = ROWS) -> bytes:
    return json.dumps(to_split([trained.row] * rows)).encode()


def get_header(head: bytes, name: str) -> str:
    match = re.search(rf"\r\n{name}: ([^\r\n]+)".encode(), head, re.IGNORECASE)
    assert match, head
    return match[1].decode()


def score_until_killed(trained: Champion, folder: Path, enough: int) -> list[str]:
    """Kill a busy scorer after `enough` responses; return the request ids of all responses."""
    request_ids: list[str] = []

    def record_id(head: bytes, _: bytes) -> None:
        request_ids.append(get_header(head, "x-request-id"))

    with start_scorer(folder, trained.name) as server, ThreadPoolExecutor(1) as pool:
        request = build_post(server.url, build_body(trained))
        load = pool.submit(drive, server.url, request, CONNECTIONS, lambda: False, record_id)
        wait_until(lambda: load.done() or len(request_ids) >= enough, f"{enough} responses")
        os.kill(server.process.pid, signal.SIGKILL)
        ended = load.result(30)
    assert (ended.lost, set(ended.statuses)) == (CONNECTIONS, {200})
    return request_ids


def test_every_answer_before_a_kill_is_on_record_once(trained: Champion, tmp_path: Path) -> None:
    request_ids: list[str] = []
    for kill in range(KILLS):
        request_ids += score_until_killed(trained, tmp_path, RESPONSES_BEFORE_A_KILL * (1 + kill % 4))
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as log:
        row_counts = Counter(dict(log.execute("SELECT request_id, count(*) FROM predictions GROUP BY request_id")))
    assert len(set(request_ids)) == len(request_ids) >= KILLS * RESPONSES_BEFORE_A_KILL
    assert {name: row_counts[name] for name in request_ids if row_counts[name] != ROWS} == {}


def test_no_answer_fails_or_mixes_versions_while_champions_change(trained: Champion, tmp_path: Path) -> None:
    responses: Counter[tuple[str, bytes]] = Counter()
    stop: list[bool] = []

    def record_response(head: bytes, body: bytes) -> None:
        responses.update([(get_header(head, "x-model-version"), body)])

    with start_scorer(tmp_path, trained.name, poll_seconds=0.05) as server, ThreadPoolExecutor(1) as pool:
        request = build_post(server.url, build_body(trained))
        load = pool.submit(drive, server.url, request, CONNECTIONS, lambda: bool(stop), record_response)
        try:
            for swap in range(SWAPS):
                version = str(2 - swap % 2)
                trained.promote(version)
                wait_until(lambda version=version: load.done() or server.serves(version), f"version {version}")  # type: ignore[misc]
        finally:
            stop.append(True)
        assert load.result(60).is_flawless
        assert server.end() == 0
        assert len(server.events("model_taken")) == 1 + SWAPS
    assert sorted(version for version, _ in responses) == ["1", "2"], "each version has one response to these rows"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
)
KINDS = st.sampled_from([JSON, CSV, "application/json; charset=utf-8", "text/plain", "multipart/form-data", "*/*", ""])


def generate_tables(row: dict[str, float]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Generate tables from a valid row, with values and columns replaced, added or removed."""
    names = st.sampled_from(sorted(row))
    changed = st.builds(
        lambda change, removed: {name: value for name, value in {**row, **change}.items() if name not in removed},
        st.dictionaries(names | st.text(max_size=8), ANYTHING, max_size=3),
        st.sets(names, max_size=2),
    )
    return st.lists(changed, min_size=1, max_size=3)


def encode_table(name: str, rows: list[dict[str, Any]]) -> tuple[bytes, str]:
    if name == "csv":
        return to_csv(rows).encode("utf-8", "replace"), CSV
    same_keys = [{key: row.get(key) for key in rows[0]} for row in rows]
    return json.dumps(FORMATS[name](same_keys if name in ("inputs", "split") else rows)).encode(), JSON


def replace_bytes(body: tuple[bytes, str], start: int, length: int, instead: bytes) -> tuple[bytes, str]:
    """Return a body with some bytes replaced."""
    start %= len(body[0]) + 1
    return body[0][:start] + instead + body[0][start + length :], body[1]


def generate_bodies(row: dict[str, float]) -> st.SearchStrategy[tuple[bytes, str]]:
    """Generate bodies with a content type, from random bytes to tables that are almost valid."""
    almost_valid = st.builds(encode_table, st.sampled_from(sorted(FORMATS)), generate_tables(row))
    formats = ("dataframe_split", "dataframe_records", "instances", "inputs")
    keyed = st.dictionaries(st.sampled_from(formats), ANYTHING, min_size=1, max_size=2)
    return st.one_of(
        st.tuples(st.binary(max_size=300), KINDS),
        st.tuples((ANYTHING | keyed).map(lambda value: json.dumps(value).encode()), KINDS),
        almost_valid,
        st.builds(replace_bytes, almost_valid, st.integers(0, 2000), st.integers(0, 20), st.binary(max_size=4)),
    )


def test_rubbish_is_answered_or_refused_by_name_and_leaves_no_memory(trained: Champion, running: Server) -> None:
    session, process = requests.Session(), psutil.Process(running.process.pid)
    memory: list[int] = []

    @settings(
        max_examples=BODIES, deadline=None, database=None, derandomize=not FULL,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(generate_bodies(trained.row))
    def send(request: tuple[bytes, str]) -> None:
        body, kind = request
        response = session.post(f"{running.url}/invocations", body, headers={"Content-Type": kind}, timeout=30)
        memory.append(process.memory_info().rss)
        if response.status_code == 200:
            assert set(response.json()) == {"predictions"}
        else:
            assert 400 <= response.status_code < 500, (response.status_code, response.text)
            assert response.json()["field"], response.text
            assert response.json()["message"], response.text

    send()
    assert len(memory) >= BODIES
    assert max(memory[BODIES // 2 :]) < max(memory[: BODIES // 2]) * (1 + MOST_GROWTH)


@contextmanager
def open_connections(server: Server, count: int, data: bytes) -> Iterator[list[socket.socket]]:
    """Yield connections that have sent `data` and stay open."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(count)]
        for client in clients:
            client.sendall(data)
        yield clients


def test_idle_slow_and_deaf_clients_stop_nobody(trained: Champion, running: Server) -> None:
    process = psutil.Process(running.process.pid)
    before = process.num_fds()
    small = build_post(running.url, build_body(trained))
    large = build_post(running.url, build_body(trained, ROWS_OF_A_LARGE_RESPONSE))
    with (
        open_connections(running, IDLE, b""),
        open_connections(running, SLOW, small[:20]) as amid_headers,
        open_connections(running, SLOW, small[:-20]) as amid_body,
        open_connections(running, DEAF, large * 3),
    ):
        wait_until(lambda: process.num_fds() >= before + IDLE + SLOW, "all are connected", 30)
        requests_left = iter(range(OTHER_REQUESTS))
        assert drive(running.url, small, 2, lambda: next(requests_left, None) is None).is_flawless
        # Each slow connection sends one more byte, while other requests are still scored.
        for client in (*amid_headers, *amid_body):
            client.sendall(b" ")
        assert running.score(trained.split()).ok
    wait_until(lambda: process.num_fds() < before + SLOW, "their sockets are closed again", 30)
    assert running.score(trained.split()).ok
