"""Faults made for real, on a scorer that is kept busy: killed, swapped, sent rubbish, held open by clients that idle.

SCORER_FAULTS=full in the environment makes as many of them as were asked for once: 50 kills, 200 swaps, 10,000 bodies.
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
ANSWERS_BEFORE_A_KILL = 150
IDLE, SLOW, DEAF = 1000, 100, 10
"""Connections that send nothing, that never finish what they send, and that never read their answer."""

LARGE_ANSWER_ROWS = 2000
OTHERS = 100
MOST_GROWTH = 0.15
"""How much more memory the second half of the rubbish may leave in use than the first did."""


def asking(trained: Champion, rows: int = ROWS) -> bytes:
    return json.dumps(to_split([trained.row] * rows)).encode()


def header(head: bytes, name: str) -> str:
    found = re.search(rf"\r\n{name}: ([^\r\n]+)".encode(), head, re.IGNORECASE)
    assert found, head
    return found[1].decode()


def answers_until_killed(trained: Champion, folder: Path, enough: int) -> list[str]:
    """Kill a busy scorer after so many answers; return the ids of all that came."""
    answered: list[str] = []

    def note(head: bytes, _: bytes) -> None:
        answered.append(header(head, "x-request-id"))

    with start_scorer(folder, trained.name) as server, ThreadPoolExecutor(1) as pool:
        request = build_post(server.url, asking(trained))
        load = pool.submit(drive, server.url, request, CONNECTIONS, lambda: False, note)
        wait_until(lambda: load.done() or len(answered) >= enough, f"{enough} answers")
        os.kill(server.process.pid, signal.SIGKILL)
        ended = load.result(30)
    assert (ended.lost, set(ended.statuses)) == (CONNECTIONS, {200})
    return answered


def test_every_answer_before_a_kill_is_on_record_once(trained: Champion, tmp_path: Path) -> None:
    each = [answers_until_killed(trained, tmp_path, ANSWERS_BEFORE_A_KILL * (1 + kill % 4)) for kill in range(KILLS)]
    answered = [name for names in each for name in names]
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as log:
        found = Counter(dict(log.execute("SELECT request_id, count(*) FROM predictions GROUP BY request_id")))
    assert len(set(answered)) == len(answered) >= KILLS * ANSWERS_BEFORE_A_KILL
    assert {name: found[name] for name in answered if found[name] != ROWS} == {}


def test_no_answer_fails_or_mixes_versions_while_champions_change(trained: Champion, tmp_path: Path) -> None:
    seen: Counter[tuple[str, bytes]] = Counter()
    stop: list[bool] = []

    def note(head: bytes, body: bytes) -> None:
        seen.update([(header(head, "x-model-version"), body)])

    with start_scorer(tmp_path, trained.name, poll_seconds=0.05) as server, ThreadPoolExecutor(1) as pool:
        request = build_post(server.url, asking(trained))
        load = pool.submit(drive, server.url, request, CONNECTIONS, lambda: bool(stop), note)
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
    assert sorted(version for version, _ in seen) == ["1", "2"], "each version has one answer for these rows"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
)
KINDS = st.sampled_from([JSON, CSV, "application/json; charset=utf-8", "text/plain", "multipart/form-data", "*/*", ""])


def tables(row: dict[str, float]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Tables that begin as a row that fits, with values, columns and rows replaced, added or gone."""
    known = st.sampled_from(sorted(row))
    changed = st.builds(
        lambda change, gone: {name: value for name, value in {**row, **change}.items() if name not in gone},
        st.dictionaries(known | st.text(max_size=8), ANYTHING, max_size=3),
        st.sets(known, max_size=2),
    )
    return st.lists(changed, min_size=1, max_size=3)


def encoded(name: str, rows: list[dict[str, Any]]) -> tuple[bytes, str]:
    if name == "csv":
        return to_csv(rows).encode("utf-8", "replace"), CSV
    alike = [{key: row.get(key) for key in rows[0]} for row in rows]
    return json.dumps(FORMATS[name](alike if name in ("inputs", "split") else rows)).encode(), JSON


def cut(body: tuple[bytes, str], start: int, length: int, instead: bytes) -> tuple[bytes, str]:
    """Return a body with some bytes replaced."""
    place = start % (len(body[0]) + 1)
    return body[0][:place] + instead + body[0][place + length :], body[1]


def bodies(row: dict[str, float]) -> st.SearchStrategy[tuple[bytes, str]]:
    """Bodies and what they are said to be, from noise to tables that are almost right."""
    near = st.builds(encoded, st.sampled_from(sorted(FORMATS)), tables(row))
    formats = ("dataframe_split", "dataframe_records", "instances", "inputs")
    keyed = st.dictionaries(st.sampled_from(formats), ANYTHING, min_size=1, max_size=2)
    return st.one_of(
        st.tuples(st.binary(max_size=300), KINDS),
        st.tuples((ANYTHING | keyed).map(lambda one: json.dumps(one).encode()), KINDS),
        near,
        st.builds(cut, near, st.integers(0, 2000), st.integers(0, 20), st.binary(max_size=4)),
    )


def test_rubbish_is_answered_or_refused_by_name_and_leaves_no_memory(trained: Champion, running: Server) -> None:
    session, process = requests.Session(), psutil.Process(running.process.pid)
    memory: list[int] = []

    @settings(
        max_examples=BODIES, deadline=None, database=None, derandomize=not FULL,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(bodies(trained.row))
    def ask(sent: tuple[bytes, str]) -> None:
        body, kind = sent
        answer = session.post(f"{running.url}/invocations", body, headers={"Content-Type": kind}, timeout=30)
        memory.append(process.memory_info().rss)
        if answer.status_code == 200:
            assert set(answer.json()) == {"predictions"}
        else:
            assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
            assert answer.json()["field"], answer.text
            assert answer.json()["message"], answer.text

    ask()
    assert len(memory) >= BODIES
    assert max(memory[BODIES // 2 :]) < max(memory[: BODIES // 2]) * (1 + MOST_GROWTH)


@contextmanager
def connections(server: Server, how_many: int, sends: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent some bytes and stay open."""
    with ExitStack() as stack:
        opened = [stack.enter_context(server.connect()) for _ in range(how_many)]
        for one in opened:
            one.sendall(sends)
        yield opened


def test_idle_slow_and_deaf_clients_stop_nobody(trained: Champion, running: Server) -> None:
    process = psutil.Process(running.process.pid)
    before = process.num_fds()
    whole = build_post(running.url, asking(trained))
    large = build_post(running.url, asking(trained, LARGE_ANSWER_ROWS))
    with (
        connections(running, IDLE, b""),
        connections(running, SLOW, whole[:20]) as amid_headers,
        connections(running, SLOW, whole[:-20]) as amid_body,
        connections(running, DEAF, large * 3),
    ):
        wait_until(lambda: process.num_fds() >= before + IDLE + SLOW, "all are connected", 30)
        left = iter(range(OTHERS))
        assert drive(running.url, whole, 2, lambda: next(left, None) is None).is_flawless
        # a byte more of each slow one, and the others are answered still
        for one in (*amid_headers, *amid_body):
            one.sendall(b" ")
        assert running.score(trained.split()).ok
    wait_until(lambda: process.num_fds() < before + SLOW, "their sockets are closed again", 30)
    assert running.score(trained.split()).ok
