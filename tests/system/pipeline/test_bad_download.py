"""Downloads that go wrong, made for real by a server that misbehaves and by damaged files.

The tests share one experiment: whichever good download was the last is the older one that a fault may not touch.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from download import fetch
from tests.conftest import Ended, Experiment, new_experiment
from tests.support.faulty_http_server import FaultyServer
from tests.system.conftest import artifacts

RunStep = Callable[..., Ended]
Refuse = Callable[..., Run]
Put = Callable[[str, bytes], Path]
Good = dict[str, tuple[str, bytes]]

STALL_SECONDS = 0.5


@pytest.fixture(scope="module")
def experiment(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return new_experiment("bad downloads", tmp_path_factory.mktemp("bad_downloads"))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def csv(few_clients: pd.DataFrame) -> bytes:
    return few_clients.to_csv(index=False).encode()


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a file and return its path: put("raw.csv", b"...")."""

    def call(name: str, body: bytes) -> Path:
        path = tmp_path / "source" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
        return path

    return call


@pytest.fixture
def older(experiment: Experiment, run_step: RunStep, put: Put, csv: bytes) -> Run:
    """A finished current download, which no later fault may touch."""
    if not experiment.current("download"):
        assert run_step("download", file_url=put("older.csv", csv)).status == 0
    (run,) = experiment.current("download")
    return run


@pytest.fixture
def server(faulty_server: FaultyServer, csv: bytes) -> FaultyServer:
    faulty_server.files["raw.csv"] = csv
    return faulty_server


def published(experiment: Experiment) -> bytes:
    """The raw data of the one current download."""
    (run,) = experiment.current("download")
    assert run.info.status == "FINISHED"
    return artifacts(experiment)[f"{run.info.run_id}/artifacts/raw_data.csv"]


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return packed.getvalue()


def parquet(table: pd.DataFrame) -> bytes:
    return bytes(table.to_parquet(index=False))


def workbook(table: pd.DataFrame, titles: int = 0) -> bytes:
    """The table as .xlsx, its header below some rows of titles, as the source of the real data has it."""
    packed = io.BytesIO()
    with pd.ExcelWriter(packed) as writer:
        for row in range(titles):
            pd.DataFrame([[f"title {row}", "X1"]]).to_excel(writer, index=False, header=False, startrow=row)
        table.to_excel(writer, index=False, startrow=titles)
    return packed.getvalue()


KINDS = ["csv", "csv.gz", "zip", "zip of macOS", "zip of xlsx", "xlsx", "parquet", "csv with byte order mark"]


@pytest.fixture(scope="module")
def good(few_clients: pd.DataFrame) -> Good:
    """Name and content of a file of each kind, all of the same rows."""
    csv = few_clients.to_csv(index=False).encode()
    files = (
        ("raw.csv", csv),
        ("raw.csv.gz", gzip.compress(csv)),
        ("raw.zip", zipped({"readme.txt": b"-", "in/raw.csv": csv})),
        ("raw.zip", zipped({"raw.csv": csv, "__MACOSX/._raw.csv": b"\0\5\x16\7"})),
        ("raw.zip", zipped({"raw.xlsx": workbook(few_clients, titles=1)})),
        ("raw.xlsx", workbook(few_clients)),
        ("raw.parquet", parquet(few_clients)),
        ("raw.csv", b"\xef\xbb\xbf" + csv),
    )
    return dict(zip(KINDS, files, strict=True))


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# A server that misbehaves


@pytest.mark.usefixtures("older")
def test_missing_page_is_refused_at_once(server: FaultyServer, refuse: Refuse) -> None:
    url = server.url("missing/raw.csv")
    refuse("download", "DownloadFailed", url, "nothing found", "404", "Check data.file_url", file_url=url)
    assert server.asked["missing/raw.csv"] == 1


@pytest.mark.usefixtures("older")
def test_forbidden_page_is_refused_at_once(server: FaultyServer, refuse: Refuse) -> None:
    url = server.url("forbidden/raw.csv")
    refuse("download", "DownloadFailed", url, "403 Forbidden", "your rights", file_url=url)
    assert server.asked["forbidden/raw.csv"] == 1


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ("broken", "the server answered 500 Internal Server Error"),
        ("cut", "bytes (ClientPayloadError)"),
        ("stall", "no data for 0.5 s"),
    ],
)
def test_failure_on_every_try_is_reported_with_the_last_cause(
    server: FaultyServer, refuse: Refuse, behaviour: str, cause: str
) -> None:
    url = server.url(f"{behaviour}/raw.csv")
    refuse(
        *("download", "DownloadFailed", url, "each of 3 tries", cause, "Try again later", "download.attempts"),
        **{"file_url": url, "attempts": 3, "stall_seconds": STALL_SECONDS},
    )
    assert server.asked[f"{behaviour}/raw.csv"] == 3


@pytest.mark.usefixtures("older")
def test_nobody_listening_is_reported_with_the_address(refuse: Refuse) -> None:
    with FaultyServer() as gone:
        url = gone.url("good/raw.csv")
    refuse("download", "DownloadFailed", url, "each of 2 tries", "Cannot connect", file_url=url, attempts=2)


@pytest.mark.usefixtures("older")
def test_redirect_in_a_circle_is_refused(server: FaultyServer, refuse: Refuse) -> None:
    url = server.url("circle/raw.csv")
    refuse("download", "DownloadFailed", url, "redirects in a loop", "data.file_url", file_url=url)


@pytest.mark.parametrize(("behaviour", "tries"), [("broken_twice", 3), ("cut_once", 2), ("stall_once", 2)])
def test_failure_that_passes_is_survived(
    server: FaultyServer, run_step: RunStep, experiment: Experiment, csv: bytes, behaviour: str, tries: int
) -> None:
    url = server.url(f"{behaviour}/raw.csv")
    assert run_step("download", file_url=url, attempts=tries, stall_seconds=STALL_SECONDS).status == 0
    assert published(experiment) == csv
    assert server.asked[f"{behaviour}/raw.csv"] == tries


def test_each_pause_between_tries_is_longer_than_the_one_before(
    server: FaultyServer, run_step: RunStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_SECONDS", 0.1)
    ended = run_step("download", file_url=server.url("broken/raw.csv"), attempts=4)
    assert re.findall(r"try (\d) failed: .*500.*; the next in ([\d.]+) s", ended.log) == [
        ("1", "0.1"),
        ("2", "0.2"),
        ("3", "0.4"),
    ]


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
    server.files |= dict.fromkeys(["raw", "export.php", "raw%20data.csv"], csv)
    assert run_step("download", file_url=server.url(path)).status == 0
    assert published(experiment) == csv


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("name", ["raw.csv", "raw.zip", "raw.xls", "raw"])
def test_web_page_with_status_200_is_named_as_such(server: FaultyServer, refuse: Refuse, name: str) -> None:
    url = server.url(f"page/{name}")
    refuse("download", "TableUnreadable", url, "a web page, not a table", "in a browser", file_url=url, sha256="0" * 64)


# Digests


@pytest.mark.usefixtures("older")
def test_other_sha256_is_refused_with_both_digests(put: Put, refuse: Refuse, csv: bytes) -> None:
    path = put("raw.csv", csv)
    wanted = "0" * 64
    refuse(
        *("download", "WrongDigest", str(path), sha256(csv), wanted, "set data.sha256"),
        **{"file_url": path, "sha256": wanted},
    )


@pytest.mark.parametrize("which", ["zip", "table", "second of two"])
def test_sha256_of_the_zip_or_of_the_table_in_it_is_accepted(
    put: Put, run_step: RunStep, experiment: Experiment, csv: bytes, which: str
) -> None:
    packed = zipped({"raw.csv": csv})
    accepted = {
        "zip": sha256(packed),
        "table": sha256(csv),
        "second of two": f"{'0' * 64},{sha256(csv)}",
    }
    assert run_step("download", file_url=put("raw.zip", packed), sha256=accepted[which]).status == 0
    assert published(experiment) == csv


# Files that are no table


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("name", ["raw.csv", "raw.zip", "raw.parquet", "raw"])
def test_empty_file_is_refused(put: Put, refuse: Refuse, name: str) -> None:
    path = put(name, b"")
    refuse("download", "TableUnreadable", str(path), "is empty (0 bytes)", "Ask the source", file_url=path)


@pytest.mark.usefixtures("older")
def test_header_without_rows_is_refused(put: Put, refuse: Refuse, csv: bytes) -> None:
    path = put("raw.csv", csv.splitlines(keepends=True)[0])
    refuse("download", "TableUnreadable", str(path), "a header and no rows", file_url=path)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_that_is_not_utf8_is_refused(put: Put, refuse: Refuse, csv: bytes, encoding: str) -> None:
    path = put("raw.csv", csv.decode().replace("SEX", "GESCHLÄCHT", 1).encode(encoding))
    refuse("download", "TableUnreadable", str(path), "is not UTF-8 text", "Save it as UTF-8", file_url=path)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_delimiter_is_refused_by_name(
    put: Put, refuse: Refuse, few_clients: pd.DataFrame, delimiter: str, name: str
) -> None:
    path = put("raw.csv", few_clients.to_csv(index=False, sep=delimiter).encode())
    refuse("download", "TableUnreadable", str(path), f"separated by {name}", "with commas", file_url=path)


def cut_off(body: bytes) -> bytes:
    return body[: len(body) // 2]


def overwritten(body: bytes, place: float = 0.5) -> bytes:
    start = int(len(body) * place)
    return body[:start] + b"\x55" * 64 + body[start + 64 :]


def overwritten_late(body: bytes) -> bytes:
    """Damage near the end, where a Parquet file describes itself (its data have no checksum)."""
    return overwritten(body, 0.9)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("raw.csv.gz", cut_off, "is damaged or cut off"),
        ("raw.csv.gz", overwritten, "is damaged or cut off"),
        ("raw.zip", cut_off, "is damaged or cut off"),
        ("raw.zip", overwritten, "is damaged or cut off"),
        ("raw.xlsx", cut_off, "cannot be read as a spreadsheet"),
        ("raw.xlsx", overwritten, "cannot be read as a spreadsheet"),
        ("raw.xls", cut_off, "cannot be read as a spreadsheet"),
        ("raw.parquet", cut_off, "cannot be read as Parquet"),
        ("raw.parquet", overwritten_late, "cannot be read as Parquet"),
    ],
)
def test_damaged_file_is_refused(
    put: Put, refuse: Refuse, good: Good, name: str, damage: Callable[[bytes], bytes], words: str
) -> None:
    whole = dict(reversed(good.values()))  # the first of each name
    whole["raw.xls"] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)
    path = put(name, damage(whole[name]))
    refuse("download", "TableUnreadable", str(path), name, words, file_url=path)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.csv", "b.parquet", "readme.txt"], ["holds 2: a.csv, b.parquet", "name one"]),
        (["readme.txt"], ["holds 0: none (only readme.txt)"]),
    ],
)
def test_zip_with_other_than_one_table_is_refused(
    put: Put, refuse: Refuse, csv: bytes, files: list[str], words: list[str]
) -> None:
    path = put("raw.zip", zipped(dict.fromkeys(files, csv)))
    refuse("download", "TableUnreadable", str(path), "exactly one table", *words, file_url=path)


@pytest.mark.usefixtures("older")
def test_zip_with_a_password_is_refused(put: Put, refuse: Refuse, csv: bytes) -> None:
    body = bytearray(zipped({"raw.csv": csv}))
    for entry, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(entry) + flags] |= 1  # the bit that says "encrypted"
    path = put("raw.zip", bytes(body))
    refuse("download", "TableUnreadable", str(path), "cannot be unpacked", "password", file_url=path)


# Addresses that lead nowhere


@pytest.mark.usefixtures("older")
def test_missing_local_file_is_named(tmp_path: Path, refuse: Refuse) -> None:
    path = tmp_path / "nowhere.csv"
    refuse("download", "DownloadFailed", str(path), "no such file", "Check data.file_url", file_url=path)


@pytest.mark.usefixtures("older")
def test_folder_instead_of_a_file_is_refused(tmp_path: Path, refuse: Refuse) -> None:
    refuse("download", "DownloadFailed", str(tmp_path), "a folder, not a file", "data.file_url", file_url=tmp_path)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("url", ["gopher://example.org/raw.csv", "s3://bucket/raw.csv"])
def test_scheme_that_cannot_be_read_is_refused(refuse: Refuse, url: str) -> None:
    refuse("download", "DownloadFailed", url, "cannot be read", "Check data.file_url", file_url=url)


@pytest.mark.usefixtures("older")
def test_unknown_data_set_is_refused_with_the_known_ones(put: Put, refuse: Refuse, csv: bytes) -> None:
    path = put("raw.csv", csv)
    refuse("download", "BadParameter", "no data set 'other'", "sample, uci", file_url=path, dataset="other")


@pytest.mark.parametrize("dataset", ["runs:/{older}/nothing.yaml", "runs:/0123456789abcdef0123456789abcdef/data.yaml"])
def test_description_that_is_in_no_run_is_refused(
    older: Run, put: Put, refuse: Refuse, csv: bytes, dataset: str
) -> None:
    address = dataset.format(older=older.info.run_id)
    refuse("download", "ArtifactMissing", address.split("/")[1], file_url=put("raw.csv", csv), dataset=address)


@pytest.mark.usefixtures("older")
def test_description_that_is_no_yaml_is_refused(put: Put, refuse: Refuse, csv: bytes) -> None:
    wrong = put("mine.yaml", b"columns: {SEX: \n")
    refuse(
        *("download", "BadParameter", "mine.yaml: line 2: not YAML"),
        **{"file_url": put("raw.csv", csv), "dataset": wrong},
    )


@pytest.mark.usefixtures("older")
def test_wrong_key_in_the_description_is_named(put: Put, refuse: Refuse, csv: bytes) -> None:
    wrong = put("mine.yaml", b"source_target: y\ntarget: default\ncolumns: {SEX: {type: whole}}\n")
    refuse(
        *("download", "BadParameter", "mine.yaml", "columns.SEX.type", "'integer', 'float' or 'text'"),
        **{"file_url": put("raw.csv", csv), "dataset": wrong},
    )


# Good files of every kind


@pytest.mark.parametrize(
    ("kind", "by"),
    [(kind, by) for kind in KINDS for by in ("path", "http URL without ending")]
    + [("csv", "file URL"), ("xlsx", "http URL"), ("zip", "http URL")],
)
def test_every_format_by_every_way_gives_the_same_rows(
    put: Put,
    server: FaultyServer,
    run_step: RunStep,
    experiment: Experiment,
    few_clients: pd.DataFrame,
    good: Good,
    kind: str,
    by: str,
) -> None:
    name, body = good[kind]
    server.files |= {name: body, "raw": body}
    path = put(name, body)
    url = {
        "path": str(path),
        "file URL": path.as_uri(),
        "http URL": server.url(f"good/{name}"),
        "http URL without ending": server.url("good/raw?id=7"),
    }[by]

    assert run_step("download", file_url=url).status == 0

    found = pd.read_csv(io.BytesIO(published(experiment)))
    pd.testing.assert_frame_equal(found, few_clients, check_dtype=False)


def test_gz_that_is_unpacked_on_the_way_is_read(
    server: FaultyServer, run_step: RunStep, experiment: Experiment, csv: bytes
) -> None:
    server.files["raw.csv.gz"] = gzip.compress(csv)
    assert run_step("download", file_url=server.url("gzipped/raw.csv.gz")).status == 0
    assert published(experiment) == csv
