"""stepkit.store: choice of the store, errors of an unusable store, and tags of its runs and models."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run, RunData, RunInfo, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from stepkit.errors import BadParameter, StepError, StoreUnusable, TrackingRefused, TrackingUnreachable
from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from stepkit.step.exit import to_step_error
from stepkit.store import checks
from stepkit.store.lineage import make_artifact_uri, parse_artifact_name, parse_run_id, read_inputs
from stepkit.store.model_files import compare_digests, compute_digests
from stepkit.store.reference import find_reference
from stepkit.store.tracking import _SIGNS, connect, handle_missing, is_refused, is_unreachable, to_store_error
from tests.conftest import Experiment
from tests.support.servers import LoopbackServer


@pytest.mark.parametrize(
    ("error", "unreachable"),
    [
        (requests.ConnectionError("x"), True),
        (requests.Timeout("x"), True),
        (MlflowException("Run with id=1f not found"), False),
        (OSError("No such artifact"), False),
        (FileNotFoundError("Connection refused"), False),
        # a download keeps only the text of its errors
        *((MlflowException(f"The following failures occurred: {sign}"), True) for sign in _SIGNS[TrackingUnreachable]),
        *((MlflowException(f"The following failures occurred: {sign}"), False) for sign in _SIGNS[TrackingRefused]),
    ],
    ids=str,
)
def test_only_a_missing_response_means_unreachable(error: Exception, unreachable: bool) -> None:
    assert is_unreachable(error) is unreachable
    assert is_refused(error) is any(sign in str(error) for sign in _SIGNS[TrackingRefused])


class Answer(BaseHTTPRequestHandler):
    """Server that takes the status and the kind of body from the first part of the path."""

    def do_GET(self) -> None:
        status, _, body = self.path.split("/")[1].partition("-")
        words = {"json": b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}'}.get(body, b"words")
        self.send_response_only(int(status))
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    do_POST = do_PUT = do_GET  # noqa: N815  # http.server finds the methods by these names

    def log_message(self, *words: object) -> None:
        pass


def ask_for_a_run(uri: str) -> None:
    MlflowClient(uri).get_run("1f")


def send_artifact(uri: str) -> None:
    repository = HttpArtifactRepository(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1")
    repository.log_artifact(__file__)


def open_database(uri: str) -> None:
    """Query like MLflow's store, which re-raises a database error as the cause of its own."""
    try:
        with create_engine(uri).connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
    except OperationalError as error:
        raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error


@pytest.mark.parametrize(
    ("ask", "place", "kind"),
    [
        (ask_for_a_run, "404-json", None),
        (ask_for_a_run, "401", TrackingRefused),
        (ask_for_a_run, "403", TrackingRefused),
        (ask_for_a_run, "404", TrackingUnreachable),
        (ask_for_a_run, "500", TrackingUnreachable),
        (ask_for_a_run, "nobody", TrackingUnreachable),
        (send_artifact, "403", TrackingRefused),
        (send_artifact, "500", TrackingUnreachable),
        (send_artifact, "507", TrackingUnreachable),
        (send_artifact, "nobody", TrackingUnreachable),
        (open_database, "sqlite", StoreUnusable),
        (open_database, "postgresql", TrackingUnreachable),
    ],
)
def test_the_error_of_each_driver_is_recognised_as_a_store_problem(
    ask: Callable[[str], None], place: str, kind: type[StepError] | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    databases = {
        "sqlite": f"sqlite:///{tmp_path}/none/x.db",
        "postgresql": f"postgresql://me@127.0.0.1:{find_free_port()}/mlflow",
        "nobody": f"http://127.0.0.1:{find_free_port()}",
    }
    with LoopbackServer(Answer) as server, pytest.raises((MlflowException, OSError)) as ended:
        ask(databases.get(place, f"{server.address}/{place}"))
    assert type(to_store_error(ended.value)) is (kind or type(None))


@pytest.fixture
def untouched() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("untouched")
def test_relative_sqlite_file_is_one_file_for_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(tmp_path / "mine.db", ROOT)
    assert connect(f"sqlite:///{relative}") == f"sqlite:///{tmp_path / 'mine.db'}"


@pytest.mark.usefixtures("untouched")
def test_a_relative_address_of_mlflow_run_typed_elsewhere_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///not_here.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "1f")
    with pytest.raises(BadParameter, match=r"^MLFLOW_TRACKING_URI: .*relative.* whole path"):
        connect()
    assert not (ROOT / "not_here.db").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/proc/none/mlflow.db", "'/proc/none'"),
        ("plain/mlflow.db", "plain"),
        ("other.db", "file is not a database"),
        (".", "unable to open database file"),
    ],
    ids=["missing folder", "below a file", "another file", "a folder"],
)
@pytest.mark.usefixtures("untouched")
def test_a_database_file_that_cannot_be_used_is_named_at_once(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "other.db").write_text("long enough to be read as a database, which it is not " * 10)
    file = tmp_path / name
    with pytest.raises(
        StoreUnusable, match=r"another store: MLFLOW_TRACKING_URI or main\.mlflow_tracking_url"
    ) as ended:
        connect(f"sqlite:///{file}")
    assert str(file) in str(ended.value)
    assert words in str(ended.value)


@pytest.mark.usefixtures("untouched")
def test_a_database_server_that_is_down_is_named_at_once_without_its_password() -> None:
    uri = f"postgresql://me:XqSECRET/qX@127.0.0.1:{find_free_port()}/mlflow"
    with pytest.raises(TrackingUnreachable, match="set another store") as ended:
        connect(uri)
    assert "127.0.0.1" in str(ended.value)
    assert "SECRET" not in str(ended.value)


@pytest.mark.usefixtures("untouched")
def test_a_server_that_accepts_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RESPONSE_SECONDS", 0.2)
    silent = pytest.raises(TrackingUnreachable, match=r"does not respond \(ReadTimeout\)")
    with socket.create_server(("127.0.0.1", 0)) as server, silent:
        connect(f"http://127.0.0.1:{server.getsockname()[1]}")


def make_mlflow_error(cause: Exception) -> MlflowException:
    """Return MLflow's error for a database error."""
    error = MlflowException(str(cause), TEMPORARILY_UNAVAILABLE)
    error.__cause__ = cause
    return error


LOCKED = make_mlflow_error(OperationalError("UPDATE runs", None, sqlite3.OperationalError("database is locked")))
TWICE = make_mlflow_error(IntegrityError("INSERT", None, sqlite3.IntegrityError("UNIQUE constraint failed")))
FULL = OSError(errno.ENOSPC, "No space left on device", "/var/mlruns/a.csv")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LOCKED, "StoreUnusable: database is locked. MLFLOW_TRACKING_URI"),
        (FULL, "DiskUnusable: /var/mlruns/a.csv: No space left on device. Free space"),
        (OSError(errno.EROFS, "Read-only file system", "/mnt/a"), "DiskUnusable: /mnt/a: Read-only permission"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/plain/a"), "DiskUnusable: /plain/a: folder"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "DiskUnusable: TMPDIR"),
        (requests.ConnectionError("x"), "TrackingUnreachable: stopped responding"),
        (MlflowException("Run '1f' not found"), "StoreFailed: Run '1f' not found"),
    ],
    ids=str,
)
def test_a_cause_outside_of_this_code_is_one_message_with_a_way_out(error: Exception, words: str) -> None:
    problem = to_step_error(error)
    assert isinstance(problem, StepError)
    text = f"{type(problem).__name__}: {problem}"
    assert [word for word in words.split() if word not in text] == [], text
    assert "\n" not in text


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x"), OSError("x")], ids=repr)
def test_a_bug_of_this_code_is_not_translated(error: Exception) -> None:
    assert to_step_error(error) is None


@pytest.mark.parametrize("error", [LOCKED, FULL, requests.ConnectionError("x"), TrackingUnreachable("x")], ids=repr)
def test_an_unusable_store_never_means_a_missing_item(error: Exception) -> None:
    with pytest.raises(type(error)) as ended, handle_missing(lambda _: BadParameter("no such run"), StepError):
        raise error
    assert ended.value is error


@pytest.mark.parametrize("error", [MlflowException("Run '1f' not found"), FileNotFoundError("a.csv"), TWICE], ids=repr)
def test_a_missing_item_is_a_default_or_the_callers_error(error: Exception) -> None:
    assert to_store_error(error) is None
    with handle_missing():
        raise error
    with pytest.raises(BadParameter, match="no such run"), handle_missing(lambda _: BadParameter("no such run")):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("refused"),
        MlflowException("API request to /api/2.0/mlflow-artifacts/artifacts/1/a failed: Internal Server Error", 500),
        MlflowException("API request to /api/2.0/mlflow-artifacts/artifacts/1/a failed: too many 500 error responses"),
    ],
)
def test_an_unreachable_server_is_named_without_its_password(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://me:XqSECRETqX@127.0.0.1:9")
    message = str(to_store_error(error))
    assert "http://127.0.0.1:9" in message
    assert "SECRET" not in message


@pytest.mark.parametrize("artifact", ["raw_data.csv", "data/data_train.csv"])
def test_an_address_gives_back_the_run_and_the_artifact(artifact: str) -> None:
    address = make_artifact_uri("1f", artifact)
    assert address == f"runs:/1f/{artifact}"
    assert (parse_run_id(address), parse_artifact_name(address)) == ("1f", artifact)


def test_inputs_are_the_input_tags_by_artifact() -> None:
    tags = {"input.data/data_train.csv": "runs:/2e/data/data_train.csv", "output.x": "sha256:0", "step": "s"}
    info = RunInfo("1f", "0", "someone", "FINISHED", 1, 2, "active")
    run = Run(info, RunData(tags=[RunTag(key, value) for key, value in tags.items()]))
    assert read_inputs(run) == {"data/data_train.csv": "runs:/2e/data/data_train.csv"}


def test_files_that_loading_adds_do_not_count_wherever_the_model_is(tmp_path: Path) -> None:
    folder = tmp_path / "__pycache__" / "model"
    (folder / "code" / "__pycache__").mkdir(parents=True)
    (folder / "MLmodel").write_text("a")
    (folder / "code" / "__pycache__" / "a.pyc").write_text("b")
    (folder / "code" / "a.py").symlink_to(folder / "MLmodel")
    before = compute_digests(folder)
    assert before.keys() == {"MLmodel", "code/a.py"}
    (folder / "MLmodel").write_text("c")
    (folder / "new").touch()
    assert compare_digests(before, compute_digests(folder)) == ["MLmodel was altered", "new was added"]


NO_CHAMPION = ("", "no reference: no champion yet")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that acts as the repository root, with two tables."""
    monkeypatch.setattr("stepkit.paths.ROOT", tmp_path)
    for name in ("preprocessed_data.csv", "pinned.csv"):
        (tmp_path / name).write_text("AGE\n24\n")
    return tmp_path


@pytest.mark.slow
def test_a_file_that_is_called_like_the_sample_does_not_replace_the_champions_data(
    root: Path, experiment: Experiment
) -> None:
    run = experiment.client.create_run(experiment.id).info.run_id

    def found(reference: str, sample: str = "preprocessed_data.csv") -> tuple[str, str]:
        return find_reference(experiment.client, f"runs:/{run}/{sample}", reference, experiment.id_name)

    assert found("preprocessed_data.csv") == NO_CHAMPION
    assert found("pinned.csv") == (str(root / "pinned.csv"), "")
    assert found("./preprocessed_data.csv") == (str(root / "preprocessed_data.csv"), ""), "a path is a path"
