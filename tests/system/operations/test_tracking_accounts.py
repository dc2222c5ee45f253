"""A tracking server with accounts, with a full disk, with another clock: each told in one line that says what to do."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.server import get_app_client
from werkzeug.security import generate_password_hash

from pipeline.launch.forkserver import warm_up
from simulate.clients import simulate_clients
from stepkit.errors import TrackingRefused
from stepkit.store import tracking
from stepkit.store.champion import find_version_by_alias
from tests.conftest import Experiment, StepResult
from tests.support.servers import IMPATIENT, LoopbackServer, MlflowServer, start_mlflow_server

PASSWORD = "a-password-for-this-test"
LARGEST_FILE = 3 * 2**20
"""Bytes: more than the server's database has, less than the table that is uploaded."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server with accounts, whose files cannot grow beyond a size, as on a disk that is full."""
    prlimit = shutil.which("prlimit")
    if not prlimit:
        pytest.skip("no prlimit on this machine (Linux: util-linux)")
    folder = tmp_path_factory.mktemp("accounts")
    ini = folder / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
    )
    given = {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    under = (prlimit, f"--fsize={LARGEST_FILE}")
    with start_mlflow_server(
        f"sqlite:///{folder}/server.db", folder, "--app-name=basic-auth", under=under, **given
    ) as server:
        check_passwords_quickly(folder / "auth.db")
        yield server


def check_passwords_quickly(database: Path) -> None:
    """Let the server compute a cheap hash for the admin: it checks the password at each of hundreds of requests."""
    cheap = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
    with closing(sqlite3.connect(database)) as connection, connection:
        changed = connection.execute("UPDATE users SET password_hash = ? WHERE username = 'admin'", [cheap])
        assert changed.rowcount == 1


@pytest.fixture
def account(guarded: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """This process, as an account that may only read, made by the admin; other settings come back after the test."""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    admin = get_app_client("basic-auth", tracking_uri=guarded.uri)
    reader = f"reader{time.monotonic_ns()}"
    admin.create_user(reader, PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", reader)
    yield guarded
    mlflow.set_tracking_uri(before)


def test_a_wrong_password_is_refused_before_any_work(account: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "guessed")
    with pytest.raises(TrackingRefused, match=r"refuses the account 'reader.*Set MLFLOW_TRACKING_USERNAME"):
        tracking.connect(account.uri)


def test_a_reader_learns_that_there_is_no_champion_yet(account: MlflowServer) -> None:
    """MLflow says "permission denied" to this question; what is meant is: no such model."""
    tracking.connect(account.uri)
    assert find_version_by_alias(MlflowClient(), "not_there_yet", "champion") is None


def test_a_reader_may_not_write_and_is_told_so(
    account: MlflowServer, experiment: Experiment, main_here: Callable[..., StepResult]
) -> None:
    ended = main_here(experiment, f"main.mlflow_tracking_url={account.uri}", "main.experiment_name=Default")
    assert ended.status == 1
    assert "TrackingRefused" in ended.message
    assert "Traceback" not in ended.log + ended.message


def test_a_full_artifact_store_is_told_and_nothing_is_current(
    guarded: MlflowServer, experiment: Experiment, main_here: Callable[..., StepResult], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    account = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    for name, text in {**IMPATIENT, **account}.items():
        monkeypatch.setenv(name, text)
    table = tmp_path / "large.csv"
    simulate_clients(45_000, seed=3).to_csv(table, index=False)
    assert table.stat().st_size > LARGEST_FILE
    warm_up()
    where = [f"main.mlflow_tracking_url={guarded.uri}", "main.experiment_name=full"]
    ended = main_here(experiment, *where, "main.execute_steps=[download]", f"data.file_url={table}")
    assert ended.status == 1
    said = ended.log + ended.message
    assert "ArtifactsNotStored: the tracking server" in said, said[-3000:]
    assert "Traceback" not in said
    client = MlflowClient(guarded.uri)
    places = [one.experiment_id for one in client.search_experiments(filter_string="name = 'full'")]
    (download,) = client.search_runs(places, "tags.step = 'download_data'")
    assert download.info.status == "FAILED"
    assert "current" not in download.data.tags


@pytest.fixture(params=[-7200, 0, 7200])
def clock(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A server whose clock is so many seconds ahead of this machine's."""
    seconds: int = request.param

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() + seconds, usegmt=True))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words: object) -> None:
            pass

    with LoopbackServer(Answer) as server:
        yield server.address, seconds


def test_clocks_that_differ_are_told(clock: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    uri, seconds = clock
    before = mlflow.get_tracking_uri()
    with caplog.at_level(logging.WARNING, logger="stepkit.store.tracking"):
        tracking.connect(uri)
    mlflow.set_tracking_uri(before)
    told = [record.getMessage() for record in caplog.records if "clock of this machine" in record.getMessage()]
    assert len(told) == (1 if seconds else 0)
    assert all(("behind" if seconds > 0 else "ahead of") in line for line in told)
