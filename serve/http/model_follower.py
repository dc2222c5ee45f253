"""Follow the aliases of the registry: load, check and warm up what they name, then swap it in between two requests."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from prediction_log.errors import RedactUnfit
from serve.errors import ModelRefused
from serve.http import last_model, metrics
from serve.http.event_log import log_event
from serve.model.servable import (
    Servable,
    download_model,
    load_verified,
    reject_on_error,
    verify_same_signature,
    warm_up,
)
from serve.settings import ServeSettings
from stepkit.secret_urls import hide_secrets_in_text
from stepkit.settings.load import format_make_command
from stepkit.store import tracking
from stepkit.store.champion import find_version_by_alias

CHAMPION, SHADOW = "champion", "shadow"
SECONDS_TO_RETRY = 60.0  # a refused version is tried again: what was broken may be its storage
SECONDS_TO_WAIT = 30.0  # so long a new worker waits for a model before it listens without one


@dataclass(frozen=True)
class RefusedVersion:
    """A version that is not served, why, and when (monotonic) that was found."""

    version: str
    reason: str
    at: float


@dataclass
class Slot:
    """The place of one role (champion, shadow): what is served there, and what was refused last."""

    role: str
    alias: str
    model: Servable | None = None
    refused: RefusedVersion | None = None

    @property
    def version(self) -> str | None:
        return self.model.version if self.model else None

    def swap_in(self, model: Servable | None) -> None:
        """Swap; one assignment, so that each request sees the one or the other."""
        old, self.model = self.model, model
        if old:
            metrics.serving.labels(old.version, self.role).set(0)
        if model:
            metrics.serving.labels(model.version, self.role).set(1)

    def describe(self) -> dict[str, str] | None:
        return {"name": self.model.name, "version": self.model.version} if self.model else None


class Follower:
    """Polls the registry in a thread of its own; `champion` and `shadow` are what to score with right now."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.slots = {CHAMPION: Slot(CHAMPION, settings.alias), SHADOW: Slot(SHADOW, settings.shadow_alias)}
        self.trouble = ""
        self.waiting_for = "the registry's first answer"
        self._stop = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    @property
    def champion(self) -> Servable | None:
        return self.slots[CHAMPION].model

    @property
    def shadow(self) -> Servable | None:
        return self.slots[SHADOW].model

    def start(self) -> None:
        # MLflow's own patience (120 s, 7 times) would leave /health in the past for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)

    def wait_for_model(self) -> None:
        """Return once there is a model, or once the registry was asked and no other worker has one."""
        deadline = time.monotonic() + SECONDS_TO_WAIT
        while not self.champion and not self._stop.is_set():
            none_to_take = self.slots[CHAMPION].refused or not last_model.find_copy()
            if time.monotonic() > deadline or (self._looked.is_set() and none_to_take):
                return
            self._stop.wait(0.1)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.poll_once()
            self._looked.set()
            gc.enable()  # off since run.py: all is imported that the first look needs
            self._stop.wait(self.settings.poll_seconds)

    def poll_once(self) -> None:
        """Look the aliases up once and take what they name; whatever fails, what is served stays."""
        try:
            self._take_copy()
            tracking.connect()
            client = MlflowClient()
            self._follow(client, self.slots[CHAMPION])
            if self.slots[SHADOW].alias:
                self._follow(client, self.slots[SHADOW])
            self._set_trouble("")
        # the thread must outlive every fault of a registry: a database that is locked, a proxy's page, a lost line
        except Exception as error:
            self._set_trouble(hide_secrets_in_text(f"{type(error).__name__}: {error}".strip())[:300])

    def _take_copy(self) -> None:
        """Begin with the model that another worker serves: the registry may be away."""
        slot, last = self.slots[CHAMPION], last_model.find_copy()
        if slot.model is None and last and last.is_intact():
            self._take(slot, last.version, lambda _: Path(last.place))

    def _follow(self, client: MlflowClient, slot: Slot) -> None:
        name, champion = self.settings.model_name, self.slots[CHAMPION].version
        named = find_version_by_alias(client, name, slot.alias)
        version = str(named.version) if named else None
        if slot.role == SHADOW and (version is None or champion is None or version == champion):
            slot.swap_in(None)
        elif version is None:
            self._log_waiting(
                f"a version of '{name}' with the alias '{slot.alias}'; type: {format_make_command('run', name)}"
            )
        elif slot.version != version:
            self._take(slot, version, partial(download_model, name, version))
        else:
            slot.refused = None

    def _take(self, slot: Slot, version: str, fetch: Callable[[str], Path]) -> None:
        """Serve a version from now on if it proves itself; `fetch` puts its files into a folder and returns where."""
        start = time.monotonic()
        if slot.refused and slot.refused.version == version and start - slot.refused.at < SECONDS_TO_RETRY:
            return
        try:
            with reject_on_error(version), tempfile.TemporaryDirectory(prefix="scorer-") as folder:
                path = fetch(folder)
                model = load_verified(self.settings.model_name, version, path)
                median = warm_up(model, self.settings.slowest_ms)
                self._verify_redactable(model)
                # a shadow gets the champion's rows, and callers keep sending what the old champion took
                if self.champion and (slot.role == SHADOW or not self.settings.allow_signature_change):
                    verify_same_signature(model, self.champion)
                if slot.role == CHAMPION:
                    last_model.save_copy(version, path)
        except ModelRefused as error:
            self._refuse(slot, version, hide_secrets_in_text(str(error)))
            return
        before, slot.refused = slot.version, None
        slot.swap_in(model)
        if before is None and slot.role == CHAMPION:
            gc.freeze()  # the libraries' objects, hundreds of thousands: to look through them holds up the answers
        metrics.changes.labels(slot.role, "taken").inc()
        taken = {"load_seconds": round(time.monotonic() - start, 3), "row_ms": round(median, 3)}
        log_event("model_taken", role=slot.role, model=model.name, version=version, before=before, **taken)

    def _verify_redactable(self, model: Servable) -> None:
        try:
            self.settings.log.verify_redact(model.names)
        except RedactUnfit as error:
            log_event("redact_unknown", version=model.version, columns=error.unknown, known=list(model.names))
            instead = "Correct serve.redact and start the scorer again."
            raise ModelRefused(f"version {model.version}: {error} {instead}") from error

    def _refuse(self, slot: Slot, version: str, reason: str) -> None:
        slot.refused = RefusedVersion(version, reason, time.monotonic())
        metrics.changes.labels(slot.role, "refused").inc()
        log_event("model_refused", role=slot.role, version=version, reason=reason, kept=slot.version)
        self._log_waiting(f"a version that can be served; {reason}")

    def _set_trouble(self, trouble: str) -> None:
        metrics.registry_up.set(0 if trouble else 1)
        if trouble:
            self._log_waiting(f"the registry; {trouble}")
        if trouble and self.champion and not self.trouble:
            log_event("registry_gone", error=trouble, kept=self.champion.version)
        elif self.trouble and not trouble:
            log_event("registry_back")
        self.trouble = trouble

    def _log_waiting(self, reason: str) -> None:
        """Log what the start waits for, once for each reason; nothing once there is a champion."""
        if self.champion is None and reason != self.waiting_for:
            log_event("waiting", waiting_for=reason)
            self.waiting_for = reason

    def describe(self) -> dict[str, Any]:
        """Return the state for /health."""
        refused = [
            {"role": slot.role, "version": slot.refused.version, "reason": slot.refused.reason}
            for slot in self.slots.values()
            if slot.refused
        ]
        shown = {
            "model": self.slots[CHAMPION].describe(),
            "shadow": self.slots[SHADOW].describe(),
            "refused": refused,
            "registry": self.trouble or "ok",
        }
        return shown if self.champion else {**shown, "waiting_for": self.waiting_for}
