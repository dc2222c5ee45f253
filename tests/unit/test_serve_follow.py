"""The follower of the registry, as far as it needs none."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from serve.follow import CHAMPION, Follower
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


def test_a_refused_version_is_shown_without_the_secrets_in_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    follower = Follower(ServeSettings())

    def fetch(_: str) -> Path:
        raise ValueError("no model at https://store/model?X-Amz-Signature=0123456789abcdef")

    follower._take(follower.slots[CHAMPION], "1", fetch)
    shown = str(follower.describe()) + capfd.readouterr().out
    assert "no model at https://store/model" in shown
    assert "0123456789abcdef" not in shown
