"""Limits on the memory of all bodies and on the number of open connections."""

from __future__ import annotations

import asyncio
import resource

import pytest

from serve.http.protocol import FEWEST_CONNECTIONS, MOST_CONNECTIONS, SPARE_FILES, compute_connection_limit
from serve.http.refusals import Refusal
from serve.http.request_context import BodyMemory


def test_a_body_waits_for_memory_that_another_gives_back() -> None:
    async def story() -> int:
        memory = BodyMemory(100, wait_seconds=30)
        await memory.reserve(80)
        waiting = asyncio.create_task(memory.reserve(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        memory.release(80)
        await waiting
        return memory.free

    assert asyncio.run(story()) == 40


def test_a_body_that_waits_too_long_is_refused_and_takes_nothing() -> None:
    async def story() -> int:
        memory = BodyMemory(100, wait_seconds=0.01)
        await memory.reserve(80)
        with pytest.raises(Refusal) as refused:
            await memory.reserve(60)
        assert (refused.value.status, refused.value.code) == (503, "OVERLOADED")
        memory.release(80)
        return memory.free

    assert asyncio.run(story()) == 100


@pytest.mark.parametrize(
    ("limit", "most"), [(resource.RLIM_INFINITY, MOST_CONNECTIONS), (10**6, MOST_CONNECTIONS), (20, FEWEST_CONNECTIONS)]
)
def test_the_number_of_connections_goes_by_the_limit_on_open_files(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert compute_connection_limit() == most


def test_descriptors_are_left_for_the_log_and_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    assert FEWEST_CONNECTIONS < compute_connection_limit() <= 1000 - SPARE_FILES
