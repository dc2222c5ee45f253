"""The follower of the registry, as far as it needs none."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import requests

from serve.http import last_model
from serve.http.model_follower import CHAMPION, Follower
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


def test_the_follower_outlives_a_failure_to_load_the_copy_of_another_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise requests.ConnectionError("the line is lost")

    monkeypatch.setattr(last_model, "last", lambda: last_model.LastModel("1", str(tmp_path), {}))
    monkeypatch.setattr("tempfile.mkdtemp", fail)
    follower = Follower(ServeSettings())
    follower.look()
    assert "the line is lost" in follower.describe()["waiting_for"]
