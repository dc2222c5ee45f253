"""Follower of the registry's aliases: loads, verifies and warms up a new version, then swaps it in between requests."""

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
    verify_compatible_signature,
    warm_up,
)
from serve.settings import ServeSettings
from stepkit.secret_urls import hide_secrets_in_text
from stepkit.settings.load import format_make_command
from stepkit.store import tracking
from stepkit.store.champion import find_version_by_alias

CHAMPION, SHADOW = "champion", "shadow"
SECONDS_TO_RETRY = 60.0  # a refused version is retried, because its storage may have been the problem
SECONDS_TO_WAIT = 30.0  # a new worker waits this long for a model before it accepts requests without one


@dataclass(frozen=True)
class RefusedVersion:
    """Version that is not served, with the reason and the time of the refusal (monotonic seconds)."""

    version: str
    reason: str
    at: float


@dataclass
class Slot:
    """Served model and last refused version of one role (champion or shadow)."""

    role: str
    alias: str
    model: Servable | None = None
    refused: RefusedVersion | None = None

    @property
    def version(self) -> str | None:
        """Version of the served model."""
        return self.model.version if self.model else None

    def swap_in(self, model: Servable | None) -> None:
        """Serve another model, or None; a single assignment, so that each request sees either the old or the new."""
        previous, self.model = self.model, model
        if previous:
            metrics.serving.labels(previous.version, self.role).set(0)
        if model:
            metrics.serving.labels(model.version, self.role).set(1)

    def describe(self) -> dict[str, str] | None:
        """Return name, version and calibration of the served model for /health."""
        if self.model is None:
            return None
        return {"name": self.model.name, "version": self.model.version, "calibration": self.model.calibration}


class Follower:
    """Poller of the registry in a separate thread; `champion` and `shadow` are the models that score now."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.slots = {CHAMPION: Slot(CHAMPION, settings.alias), SHADOW: Slot(SHADOW, settings.shadow_alias)}
        self.trouble = ""
        self.waiting_for = "registry (no response yet)"
        self._stop = threading.Event()
        self._polled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    @property
    def champion(self) -> Servable | None:
        """Model that scores the requests."""
        return self.slots[CHAMPION].model

    @property
    def shadow(self) -> Servable | None:
        """Model that scores a copy of the requests."""
        return self.slots[SHADOW].model

    def start(self) -> None:
        """Start the thread."""
        # MLflow's default (120 s, 7 attempts) would leave /health out of date for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; wait for it up to a second."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def wait_for_model(self) -> None:
        """Return once a model is loaded, or once the registry was polled and no other worker has a model."""
        deadline = time.monotonic() + SECONDS_TO_WAIT
        while not self.champion and not self._stop.is_set():
            has_no_copy = self.slots[CHAMPION].refused or not last_model.find_copy()
            if time.monotonic() > deadline or (self._polled.is_set() and has_no_copy):
                return
            self._stop.wait(0.1)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.poll_once()
            self._polled.set()
            gc.enable()  # run.py disabled it for the imports, which the first poll completes
            self._stop.wait(self.settings.poll_seconds)

    def poll_once(self) -> None:
        """Look up the aliases once and serve the versions they name; after any failure the served models stay."""
        try:
            self._take_copy()
            tracking.connect()
            client = MlflowClient()
            self._follow(client, self.slots[CHAMPION])
            if self.slots[SHADOW].alias:
                self._follow(client, self.slots[SHADOW])
            self._set_trouble("")
        # The thread must survive every fault of a registry: a locked database, a proxy's error page, a lost connection.
        except Exception as error:
            self._set_trouble(hide_secrets_in_text(f"{type(error).__name__}: {error}".strip())[:300])

    def _take_copy(self) -> None:
        """Start with the model that another worker serves, since the registry may be unavailable."""
        slot, copy = self.slots[CHAMPION], last_model.find_copy()
        if slot.model is None and copy and copy.is_intact():
            self._take(slot, copy.version, lambda _: Path(copy.place))

    def _follow(self, client: MlflowClient, slot: Slot) -> None:
        name, champion = self.settings.model_name, self.slots[CHAMPION].version
        registered = find_version_by_alias(client, name, slot.alias)
        version = str(registered.version) if registered else None
        if slot.role == SHADOW and (version is None or champion is None or version == champion):
            slot.swap_in(None)
        elif version is None:
            command = format_make_command("run", name)
            self._log_waiting(f"a version of '{name}' with the alias '{slot.alias}' (to create one: {command})")
        elif slot.version != version:
            self._take(slot, version, partial(download_model, name, version))
        else:
            slot.refused = None

    def _take(self, slot: Slot, version: str, fetch: Callable[[str], Path]) -> None:
        """Verify a version and serve it; `fetch` puts its files into a folder and returns their path."""
        start = time.monotonic()
        if slot.refused and slot.refused.version == version and start - slot.refused.at < SECONDS_TO_RETRY:
            return
        try:
            with reject_on_error(version), tempfile.TemporaryDirectory(prefix="scorer-") as folder:
                path = fetch(folder)
                model = load_verified(self.settings.model_name, version, path)
                median = warm_up(model, self.settings.slowest_ms)
                self._verify_redactable(model)
                # A shadow scores the champion's rows, and callers keep sending the columns of the old champion.
                if self.champion and (slot.role == SHADOW or not self.settings.allow_signature_change):
                    verify_compatible_signature(model, self.champion)
                if slot.role == CHAMPION:
                    last_model.save_copy(version, path)
        except ModelRefused as error:
            self._refuse(slot, version, hide_secrets_in_text(str(error)))
            return
        previous, slot.refused = slot.version, None
        slot.swap_in(model)
        if previous is None and slot.role == CHAMPION:
            # The libraries have created hundreds of thousands of objects; scanning them would delay responses.
            gc.freeze()
        metrics.changes.labels(slot.role, "taken").inc()
        times = {"load_seconds": round(time.monotonic() - start, 3), "row_ms": round(median, 3)}
        log_event("model_taken", role=slot.role, model=model.name, version=version, before=previous, **times)

    def _verify_redactable(self, model: Servable) -> None:
        """Raise ModelRefused if the first served model's data set lacks a column of `serve.redact`.

        Later versions may have fewer columns. A column that is not recorded needs no redaction.
        """
        if self.champion:
            return
        columns = model.description.names if model.description else list(model.names)
        try:
            self.settings.log.verify_redact(columns)
        except RedactUnfit as error:
            log_event("redact_unknown", version=model.version, columns=error.unknown, known=columns)
            action = "Correct serve.redact and restart the scorer."
            raise ModelRefused(f"version {model.version}: {error} {action}") from error

    def _refuse(self, slot: Slot, version: str, reason: str) -> None:
        slot.refused = RefusedVersion(version, reason, time.monotonic())
        metrics.changes.labels(slot.role, "refused").inc()
        log_event("model_refused", role=slot.role, version=version, reason=reason, kept=slot.version)
        self._log_waiting(f"a version that can be served ({reason})")

    def _set_trouble(self, trouble: str) -> None:
        metrics.registry_up.set(0 if trouble else 1)
        if trouble:
            self._log_waiting(f"registry ({trouble})")
        if trouble and self.champion and not self.trouble:
            log_event("registry_gone", error=trouble, kept=self.champion.version)
        elif self.trouble and not trouble:
            log_event("registry_back")
        self.trouble = trouble

    def _log_waiting(self, reason: str) -> None:
        """Log the reason why the scorer has no champion yet, once per reason."""
        if self.champion is None and reason != self.waiting_for:
            log_event("waiting", waiting_for=reason)
            self.waiting_for = reason

    def describe(self) -> dict[str, Any]:
        """Return the state of models and registry for /health."""
        refused_versions = [
            {"role": slot.role, "version": slot.refused.version, "reason": slot.refused.reason}
            for slot in self.slots.values()
            if slot.refused
        ]
        state = {
            "model": self.slots[CHAMPION].describe(),
            "shadow": self.slots[SHADOW].describe(),
            "refused": refused_versions,
            "registry": self.trouble or "ok",
        }
        return state if self.champion else {**state, "waiting_for": self.waiting_for}
