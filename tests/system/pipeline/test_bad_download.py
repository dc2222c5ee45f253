"""Real downloads that fail, from a faulty server and from damaged files.

The tests share one experiment. A failed download must not change the last good one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from download import fetch
from tests.conftest import Experiment, StepResult, create_experiment
from tests.support.faulty_http_server import FaultyServer
from tests.system.conftest import read_artifacts

RunStep = Callable[..., StepResult]
Refuse = Callable[..., Run]
Put = Callable[[str, bytes], Path]
Good = dict[str, tuple[str, bytes]]

STALL_SECONDS = 0.5


@pytest.fixture(scope="module")
def experiment(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("bad downloads", tmp_path_factory.mktemp("bad_downloads"))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def csv(few_clients: pd.DataFrame) -> bytes:
    return few_clients.to_csv(index=False).encode()


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Function that writes a file and returns its path."""

    def call(name: str, body: bytes) -> Path:
        path = tmp_path / "source" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
        return path

    return call


@pytest.fixture
def older(experiment: Experiment, run_step: RunStep, put: Put, csv: bytes) -> Run:
    """Finished current download, which a failed one must not change."""
    if not experiment.current("download"):
        assert run_step("download", file_url=put("older.csv", csv)).status == 0
    (run,) = experiment.current("download")
    return run


@pytest.fixture
def server(faulty_server: FaultyServer, csv: bytes) -> FaultyServer:
    faulty_server.files["raw.csv"] = csv
    return faulty_server


@pytest.fixture
def reject(older: Run, refuse: Refuse) -> Refuse:
    """Function that runs a download, which must fail and leave the older one current."""
    return partial(refuse, "download")


def read_published(experiment: Experiment) -> bytes:
    """Return the raw data of the current download."""
    (run,) = experiment.current("download")
    assert run.info.status == "FINISHED"
    return read_artifacts(experiment)[f"{run.info.run_id}/artifacts/raw_data.csv"]


def make_zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return packed.getvalue()


def make_workbook(table: pd.DataFrame, titles: int = 0) -> bytes:
    """Return the table as .xlsx with rows of titles above its header, as in the source of the real data."""
    packed = io.BytesIO()
    with pd.ExcelWriter(packed) as writer:
        for row in range(titles):
            pd.DataFrame([[f"title {row}", "X1"]]).to_excel(writer, index=False, header=False, startrow=row)
        table.to_excel(writer, index=False, startrow=titles)
    return packed.getvalue()


KINDS = ["csv", "csv.gz", "zip", "zip of macOS", "zip of xlsx", "xlsx", "parquet", "csv with byte order mark"]


@pytest.fixture(scope="module")
def good(few_clients: pd.DataFrame) -> Good:
    """Name and content of a file of each kind, with the same rows."""
    csv = few_clients.to_csv(index=False).encode()
    files = (
        ("raw.csv", csv),
        ("raw.csv.gz", gzip.compress(csv)),
        ("raw.zip", make_zip({"readme.txt": b"-", "in/raw.csv": csv})),
        ("raw.zip", make_zip({"raw.csv": csv, "__MACOSX/._raw.csv": b"\0\5\x16\7"})),
        ("raw.zip", make_zip({"raw.xlsx": make_workbook(few_clients, titles=1)})),
        ("raw.xlsx", make_workbook(few_clients)),
        ("raw.parquet", bytes(few_clients.to_parquet(index=False))),
        ("raw.csv", b"\xef\xbb\xbf" + csv),
    )
    return dict(zip(KINDS, files, strict=True))


def compute_sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# A faulty server


EACH_TRY = ("each of 3 tries", "Try again later", "download.attempts")


@pytest.mark.parametrize(
    ("behaviour", "tries", "words"),
    [
        ("missing", 1, ("not found", "404", "Check data.file_url")),
        ("forbidden", 1, ("403 Forbidden", "your permissions")),
        ("broken", 3, ("the server answered 500 Internal Server Error", *EACH_TRY)),
        ("cut", 3, ("bytes (ClientPayloadError)", *EACH_TRY)),
        ("stall", 3, ("no data for 0.5 s", *EACH_TRY)),
        ("circle", 10, ("redirects in a loop", "data.file_url")),
    ],
)
def test_a_server_that_fails_is_asked_as_often_as_may_help_and_its_last_answer_is_named(
    server: FaultyServer, reject: Refuse, behaviour: str, tries: int, words: tuple[str, ...]
) -> None:
    url = server.url(f"{behaviour}/raw.csv")
    reject("DownloadFailed", url, *words, file_url=url, attempts=3, stall_seconds=STALL_SECONDS)
    assert server.asked[f"{behaviour}/raw.csv"] == tries


def test_nobody_listening_is_reported_with_the_address(reject: Refuse) -> None:
    with FaultyServer() as server:
        url = server.url("good/raw.csv")
    reject("DownloadFailed", url, "each of 2 tries", "Cannot connect", file_url=url, attempts=2)


@pytest.mark.parametrize(("behaviour", "tries"), [("broken_twice", 3), ("cut_once", 2), ("stall_once", 2)])
def test_failure_that_passes_is_survived(
    server: FaultyServer, run_step: RunStep, experiment: Experiment, csv: bytes, behaviour: str, tries: int
) -> None:
    url = server.url(f"{behaviour}/raw.csv")
    assert run_step("download", file_url=url, attempts=tries, stall_seconds=STALL_SECONDS).status == 0
    assert read_published(experiment) == csv
    assert server.asked[f"{behaviour}/raw.csv"] == tries


def test_each_pause_between_tries_is_longer_than_the_one_before(
    server: FaultyServer, run_step: RunStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_SECONDS", 0.1)
    ended = run_step("download", file_url=server.url("broken/raw.csv"), attempts=4)
    pauses = re.findall(r"try (\d) failed: .*500.*; next try in ([\d.]+) s", ended.log)
    assert pauses == [("1", "0.1"), ("2", "0.2"), ("3", "0.4")]


def test_slow_but_steady_server_is_waited_for_and_its_progress_shown(
    server: FaultyServer, run_step: RunStep, experiment: Experiment, csv: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SECONDS_BETWEEN_LINES", 0.3)
    server.files["raw.csv"] = csv * 50
    ended = run_step("download", file_url=server.url("slow/raw.csv"), stall_seconds=STALL_SECONDS)
    assert ended.status == 0
    shown = [float(arrived) for arrived in re.findall(r"raw\.csv: ([\d.]+) of [\d.]+ MB", ended.log)]
    assert len(shown) >= 2
    assert shown == sorted(shown)
    assert server.asked["slow/raw.csv"] == 1


@pytest.mark.parametrize(
    "path",
    [
        "good/raw.csv",
        "good/raw.csv?download=1&name=other.xlsx",
        "good/raw",
        "good/export.php?table=raw.csv",
        "wrong_type/raw.csv",
        "redirect/raw.csv",
        "good/raw%20data.csv",
    ],
)
def test_address_of_any_form_gives_the_table_byte_for_byte(
    server: FaultyServer, run_step: RunStep, experiment: Experiment, csv: bytes, path: str
) -> None:
    body = csv.replace(b"\n", b"\r\n")  # a table that is parsed and written again has other line ends
    server.files |= dict.fromkeys(["raw.csv", "raw", "export.php", "raw%20data.csv"], body)
    assert run_step("download", file_url=server.url(path)).status == 0
    assert read_published(experiment) == body


@pytest.mark.parametrize("name", ["raw.csv", "raw.zip", "raw.xls", "raw"])
def test_web_page_with_status_200_is_named_as_such(server: FaultyServer, reject: Refuse, name: str) -> None:
    url = server.url(f"page/{name}")
    reject("TableUnreadable", url, "a web page, not a table", "in a browser", file_url=url, sha256="0" * 64)


# Digests


def test_other_sha256_is_refused_with_both_digests(put: Put, reject: Refuse, csv: bytes) -> None:
    path, expected = put("raw.csv", csv), "0" * 64
    reject("WrongDigest", str(path), compute_sha256(csv), expected, "set data.sha256", file_url=path, sha256=expected)


@pytest.mark.parametrize("subject", ["zip", "table", "second of two"])
def test_sha256_of_the_zip_or_of_the_table_in_it_is_accepted(
    put: Put, run_step: RunStep, experiment: Experiment, csv: bytes, subject: str
) -> None:
    packed = make_zip({"raw.csv": csv})
    accepted = {
        "zip": compute_sha256(packed),
        "table": compute_sha256(csv),
        "second of two": f"{'0' * 64},{compute_sha256(csv)}",
    }
    assert run_step("download", file_url=put("raw.zip", packed), sha256=accepted[subject]).status == 0
    assert read_published(experiment) == csv


# Files that are not a table


def truncate(body: bytes) -> bytes:
    return body[: len(body) // 2]


def overwrite(body: bytes, place: float = 0.5) -> bytes:
    start = int(len(body) * place)
    return body[:start] + b"\x55" * 64 + body[start + 64 :]


def mark_encrypted(body: bytes) -> bytes:
    """Return a zip whose flags require a password."""
    marked = bytearray(body)
    for entry, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(entry), body):
            marked[match.start() + flags] |= 1
    return bytes(marked)


DAMAGED = "damaged or cut off"
NO_UTF8 = ("is not UTF-8 text", "Save it as UTF-8")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("raw.csv", lambda body: b"", ("is empty (0 bytes)", "Ask the source")),
        ("raw.zip", lambda body: b"", ("is empty (0 bytes)",)),
        ("raw.csv", lambda body: body.splitlines(keepends=True)[0], ("a header and no rows",)),
        ("raw.csv", lambda body: body.replace(b"SEX", b"GESCHL\xc4CHT", 1), NO_UTF8),
        ("raw.csv", lambda body: body.decode().encode("utf-16"), NO_UTF8),
        ("raw.csv", lambda body: body.replace(b",", b";"), ("separated by semicolons", "with commas")),
        ("raw.csv.gz", truncate, (DAMAGED,)),
        ("raw.csv.gz", overwrite, (DAMAGED,)),
        ("raw.zip", truncate, (DAMAGED,)),
        ("raw.zip", overwrite, (DAMAGED,)),
        ("raw.xlsx", truncate, ("cannot be read as a spreadsheet",)),
        ("raw.xlsx", overwrite, ("cannot be read as a spreadsheet",)),
        ("raw.parquet", truncate, ("cannot be read as Parquet",)),
        # Near the end, where Parquet has its metadata. Its data have no checksum.
        ("raw.parquet", partial(overwrite, place=0.9), ("cannot be read as Parquet",)),
        (
            "raw.zip",
            lambda body: make_zip({"a.csv": body, "b.parquet": b""}),
            ("exactly one table (found 2: a.csv, b",),
        ),
        ("raw.zip", lambda body: make_zip({"readme.txt": body}), ("found 0: none, only readme.txt",)),
        ("raw.zip", mark_encrypted, ("cannot be unpacked", "password")),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_fault(
    put: Put, reject: Refuse, good: Good, name: str, change: Callable[[bytes], bytes], words: tuple[str, ...]
) -> None:
    bodies = dict(reversed(good.values()))  # the first of each name
    path = put(name, change(bodies[name]))
    reject("TableUnreadable", str(path), name, *words, file_url=path)


# URLs, paths and descriptions without a file


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{folder}/nowhere.csv", ("no such file", "Check data.file_url")),
        ("{folder}", ("a folder, not a file", "data.file_url")),
        ("gopher://example.org/raw.csv", ("cannot be read", "Check data.file_url")),
        ("s3://bucket/raw.csv", ("cannot be read", "Check data.file_url")),
    ],
)
def test_an_address_that_leads_to_no_file_is_named(
    tmp_path: Path, reject: Refuse, url: str, words: tuple[str, ...]
) -> None:
    url = url.format(folder=tmp_path)
    reject("DownloadFailed", url, *words, file_url=url)


@pytest.mark.parametrize(
    ("dataset", "error", "words"),
    [
        ("other", "BadParameter", ("no data set 'other'", "sample, uci")),
        ("runs:/{older}/nothing.yaml", "ArtifactMissing", ("{older}",)),
        ("runs:/0123456789abcdef0123456789abcdef/data.yaml", "ArtifactMissing", ("0123456789abcdef0123456789abcdef",)),
        (b"columns: {SEX: \n", "BadParameter", ("mine.yaml: line 2: not YAML",)),
        (
            b"source_target: y\ntarget: default\ncolumns: {SEX: {type: whole}}\n", "BadParameter",
            ("mine.yaml", "columns.SEX.type", "'integer', 'float' or 'text'"),
        ),
    ],
)  # fmt: skip
def test_a_description_that_is_missing_or_wrong_is_named(
    older: Run, put: Put, reject: Refuse, csv: bytes, dataset: str | bytes, error: str, words: tuple[str, ...]
) -> None:
    run = older.info.run_id
    place = put("mine.yaml", dataset) if isinstance(dataset, bytes) else dataset.format(older=run)
    reject(error, *(word.replace("{older}", run) for word in words), file_url=put("raw.csv", csv), dataset=place)


# Good files of every kind


@pytest.mark.parametrize(
    ("kind", "by"),
    [(kind, by) for kind in KINDS for by in ("path", "http URL without ending")]
    + [("csv", "file URL"), ("xlsx", "http URL"), ("zip", "http URL")],
)
def test_every_format_by_every_way_gives_the_same_rows(
    put: Put, server: FaultyServer, run_step: RunStep, experiment: Experiment, few_clients: pd.DataFrame,
    good: Good, kind: str, by: str,
) -> None:  # fmt: skip
    name, body = good[kind]
    server.files |= {name: body, "raw": body}
    path = put(name, body)
    urls = {
        "path": str(path),
        "file URL": path.as_uri(),
        "http URL": server.url(f"good/{name}"),
        "http URL without ending": server.url("good/raw?id=7"),
    }
    assert run_step("download", file_url=urls[by]).status == 0
    downloaded = pd.read_csv(io.BytesIO(read_published(experiment)))
    pd.testing.assert_frame_equal(downloaded, few_clients, check_dtype=False)


def test_gz_that_is_unpacked_on_the_way_is_read(
    server: FaultyServer, run_step: RunStep, experiment: Experiment, csv: bytes
) -> None:
    server.files["raw.csv.gz"] = gzip.compress(csv)
    assert run_step("download", file_url=server.url("gzipped/raw.csv.gz")).status == 0
    assert read_published(experiment) == csv
