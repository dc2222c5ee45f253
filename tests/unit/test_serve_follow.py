"""The follower of the registry, as far as it needs none."""

from __future__ import annotations

import gc

import pytest

from serve.follow import Follower
from serve.settings import ServeSettings


def test_garbage_is_collected_again_after_the_first_look_whatever_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Follower(ServeSettings())
    found: list[bool] = []

    def look() -> None:
        found.append(gc.isenabled())
        if len(found) == 2:
            follower._stop.set()

    monkeypatch.setattr(follower, "look", look)
    monkeypatch.setattr(follower._stop, "wait", lambda seconds: None)
    gc.disable()  # as run.py does before it imports the scorer
    try:
        follower._run()
    finally:
        gc.enable()
    assert found == [False, True]
