"""servers: a champion trained on the bundled sample, and the servers of this model, at most one of each kind."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import requests
import skops.io
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature

from benchmarks.load import build_post, drive_for
from benchmarks.measuring import MeasurementFailed, Store, open_fresh_store
from simulate.clients import iter_client_chunks
from stepkit.paths import ROOT
from training.export import FILES, TRUSTED_TYPES

MODEL = "credit_default"
CHAMPION = f"models:/{MODEL}@champion"
MANY_ROWS = 1000
WARM_UP_CONNECTIONS = 8
CLOSE = 1e-5
SECONDS_TO_START = 120.0
SECONDS_TO_WARM_UP = 1.0

PLAIN = "scikit-learn model, stock server"
STOCK = "this model, stock server"
SCORER = "scorer"
SCORER_BY_PROJECT = "scorer by `mlflow run`"
SCORER_BY_MAKE = "scorer by `make serve`"
UNLOGGED = "scorer, log off"
SHADOWED = "scorer, shadow on"
REASONED = "scorer, 4 reasons"
REASONS = 4


@dataclass
class Bench:
    """Trained champion, the same forest as a plain model, requests, and running servers."""

    store: Store
    rows: pd.DataFrame
    seconds: float
    running: dict[str, str] = field(default_factory=dict)
    cleanup: ExitStack = field(default_factory=ExitStack)

    @property
    def plain_model(self) -> Path:
        """Folder of the plain scikit-learn model."""
        return self.store.folder / "plain"

    def build_request(self, rows: int, kind: str = "") -> bytes:
        """Return the body of a request with the first rows, for a kind of server."""
        table = self.rows.head(rows).to_json(orient="split", index=False)
        params = f', "params": {{"reasons": {REASONS}}}' if kind == REASONED else ""
        return f'{{"dataframe_split": {table}{params}}}'.encode()

    def get_url(self, kind: str) -> str:
        """Return the URL of the server of a kind; start and warm up the server if it is not running."""
        if kind not in self.running:
            url, _ = self.cleanup.enter_context(start_server(self, kind))
            verify_probabilities(self, kind, url)
            if kind == SHADOWED:
                wait_for(
                    lambda: requests.get(f"{url}/health", timeout=60).json()["shadow"],
                    f"{url}: the shadow did not start",
                )
            drive_for(SECONDS_TO_WARM_UP, url, build_post(url, self.build_request(1, kind)), WARM_UP_CONNECTIONS)
            self.running[kind] = url
        return self.running[kind]

    def stop_servers(self) -> None:
        """Stop all servers."""
        self.running.clear()
        self.cleanup.close()


def build_command(bench: Bench, kind: str, port: int) -> list[str]:
    """Return the command that starts a server of a kind."""
    log = f"sqlite:///{bench.store.folder / f'predictions-{port}.db'}"
    scorer = [sys.executable, "-P", "serve/run.py", "--port", str(port), "--log_url", log]
    stock = ["mlflow", "models", "serve", "--env-manager", "local", "--port", str(port), "-m"]
    project = ["mlflow", "run", "./serve", "--env-manager", "local", "-P", f"port={port}", "-P", f"log_url={log}"]
    return {
        PLAIN: [*stock, str(bench.plain_model)],
        STOCK: [*stock, CHAMPION],
        SCORER: scorer,
        REASONED: scorer,
        SCORER_BY_PROJECT: project,
        SCORER_BY_MAKE: ["make", "--old-file=.venv/run.stamp", "serve", f"options=port={port} log_url={log}"],
        UNLOGGED: [*scorer, "--sample_rate", "0"],
        SHADOWED: [*scorer, "--shadow_alias", "challenger"],
    }[kind]


@contextmanager
def start_server(bench: Bench, kind: str) -> Iterator[tuple[str, float]]:
    """Start a server; yield its URL and the seconds until its first response. Stop the server at the end.

    Raises:
        MeasurementFailed: the server ended or does not respond.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url, output = f"http://127.0.0.1:{port}", bench.store.folder / f"server-{port}.txt"
    env = {**bench.store.environment, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(
            build_command(bench, kind, port), cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True
        )
    try:
        wait_for(
            lambda: process.poll() is not None or can_predict(url, bench.build_request(1)),
            f"{url}: no response in {SECONDS_TO_START:g} s",
            0.02,
        )
        if process.poll() is not None:
            raise MeasurementFailed(
                f"{kind}: the server ended. Its last output:\n{output.read_text(errors='replace')[-2000:]}"
            )
        yield url, time.perf_counter() - began
    finally:
        # MLflow's commands start the server as a child process
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def wait_for(is_true: Callable[[], object], problem: str, pause: float = 0.1) -> None:
    """Wait until a condition is true; raise MeasurementFailed after SECONDS_TO_START."""
    end = time.monotonic() + SECONDS_TO_START
    while not is_true():
        if time.monotonic() > end:
            raise MeasurementFailed(problem)
        time.sleep(pause)


def can_predict(url: str, body: bytes) -> bool:
    """Return True if the server responds to a request with status 200."""
    try:
        return send_request(url, body).ok
    except requests.ConnectionError:
        return False


def send_request(url: str, body: bytes) -> requests.Response:
    """Send a request and return the response, whatever its status is."""
    return requests.post(f"{url}/invocations", data=body, headers={"Content-Type": "application/json"}, timeout=60)


def verify_probabilities(bench: Bench, kind: str, url: str) -> None:
    """Raise MeasurementFailed if the server's probabilities differ from the champion's."""
    predictions: list[Any] = send_request(url, bench.build_request(MANY_ROWS)).json()["predictions"]
    probabilities = np.array([row["probability"] if isinstance(row, dict) else row[1] for row in predictions])
    expected = mlflow.pyfunc.load_model(CHAMPION).predict(bench.rows)["probability"].to_numpy()
    if not np.abs(probabilities - expected).max() < CLOSE:
        raise MeasurementFailed(f"{kind}: probabilities differ from the champion's by {CLOSE:.0e} or more")


@contextmanager
def prepare_bench(seconds: float) -> Iterator[Bench]:
    """Train on the bundled sample, register a challenger, and save the forest as a plain scikit-learn model."""
    with open_fresh_store() as store:
        store.measure_seconds(sys.executable, "main.py")
        mlflow.set_tracking_uri(store.uri)
        client = MlflowClient()
        champion = client.get_model_version_by_alias(MODEL, "champion")
        again = client.create_model_version(MODEL, str(champion.source), champion.run_id)
        client.set_registered_model_alias(MODEL, "challenger", again.version)
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=CHAMPION))
        signature = Model.load(str(path)).signature
        assert signature is not None, "every exported model has a signature"
        rows = next(iter_client_chunks(MANY_ROWS, seed=7))[signature.inputs.input_names()].astype(float)
        bench = Bench(store, rows, seconds)
        # the fitted pipeline of the export, saved the usual way of `mlflow.sklearn`
        mlflow.sklearn.save_model(
            skops.io.load(path / "artifacts" / FILES["sklearn"], trusted=TRUSTED_TYPES),
            str(bench.plain_model),
            signature=ModelSignature(inputs=signature.inputs),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["scikit-learn"],
            skops_trusted_types=TRUSTED_TYPES,
        )
        with bench.cleanup:
            yield bench
