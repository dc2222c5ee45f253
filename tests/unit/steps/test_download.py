"""download: names and endings of files, and the table in an archive."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import cast

import pytest

from download.fetch import fetch, make_file_name, rename_by_format
from download.run import read_description, read_raw_table, to_recorded_path, verify_digest
from download.unpack import unpack_table
from stepkit.errors import DownloadFailed, TableUnreadable
from stepkit.paths import ROOT, resolve_path
from stepkit.step.run import StepRun
from stepkit.table.columns import Columns
from stepkit.table.tables import compute_sha256
from tests.support.faulty_http_server import FaultyServer
from tests.support.small_data import CLIENTS

CSV = b"ID,AGE\n1,24\n"


def write_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def write_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/data/clients.csv", "clients.csv"),
        ("https://example.org/clients.csv?version=2#top", "clients.csv"),
        ("https://example.org/default+of%20clients.zip", "default+of clients.zip"),
        ("https://example.org", "download"),
        ("https://example.org/", "download"),
        ("s3://bucket/folder/table.parquet", "table.parquet"),
        ("file:///data/table.csv", "table.csv"),
        ("../shared/table.csv", "table.csv"),
        ("https://example.org/a%2F..%2F..%2Fpasswd", "passwd"),
    ],
)
def test_a_file_is_named_after_the_last_part_of_its_address(url: str, name: str) -> None:
    assert make_file_name(url) == name


PACKED_CSV = gzip.compress(CSV, mtime=0)


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("t.csv", CSV, "t.csv"),
        ("t.CSV", CSV, "t.CSV"),
        ("t.csv.gz", PACKED_CSV, "t.csv.gz"),
        ("t.zip", b"PK\x03\x04", "t.zip"),
        ("t.xlsx", b"PK\x03\x04", "t.xlsx"),
        ("t.parquet", b"PAR1", "t.parquet"),
        ("t.xls", b"\xd0\xcf\x11\xe0", "t.xls"),
        ("t.parquet", b"\0\0\0\0", "t.parquet"),
        ("t.zip", b"<html>Not found</html>", "t.zip.csv"),
        ("t.csv", PACKED_CSV, "t.csv.csv.gz"),
        ("t.csv.gz", CSV, "t.csv.gz.csv"),
        ("t.csv", b"PAR1....", "t.csv.parquet"),
        ("export", b"PK\x03\x04....", "export.zip"),
        ("export", b"PAR1....", "export.parquet"),
        ("export", b"\xd0\xcf\x11\xe0....", "export.xls"),
        ("export", b"\x1f\x8b....", "export.csv.gz"),
        ("export", CSV, "export.csv"),
        ("export", b"", "export.csv"),
    ],
)
def test_an_ending_that_does_not_fit_the_first_bytes_is_followed_by_one_that_does(
    tmp_path: Path, name: str, start: bytes, expected: str
) -> None:
    path = rename_by_format(write_file(tmp_path / name, start))
    assert path == tmp_path / expected
    assert path.read_bytes() == start


@pytest.mark.parametrize(("name", "packed"), [("t.csv", CSV), ("t.csv.gz", PACKED_CSV)])
def test_a_table_is_unpacked_beside_its_archive(tmp_path: Path, name: str, packed: bytes) -> None:
    path = unpack_table(write_file(tmp_path / name, packed))
    assert path == tmp_path / "t.csv"
    assert path.read_bytes() == CSV


def test_what_was_packed_gets_the_ending_of_its_content(tmp_path: Path) -> None:
    assert unpack_table(write_file(tmp_path / "export.gz", gzip.compress(CSV))) == tmp_path / "export.csv"
    with pytest.raises(TableUnreadable, match=r"records\.json\.csv is JSON\. Save the table .* Source: https://u"):
        read_raw_table("https://u", write_file(tmp_path / "records.json.gz", gzip.compress(b'[{"a": 1}]')), CLIENTS)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"folder/clients.csv": CSV, "readme.txt": b"hello"}, "clients.csv"),
        ({"../outside.csv": CSV}, "outside.csv"),
        ({"t.csv": CSV, "__MACOSX/._t.csv": b"shadow"}, "t.csv"),
    ],
    ids=["in a folder", "outside of its folder", "with a shadow file of macOS"],
)
def test_the_one_table_of_a_zip_is_unpacked_beside_it(tmp_path: Path, members: dict[str, bytes], name: str) -> None:
    (tmp_path / "inner").mkdir()
    path = unpack_table(write_zip(tmp_path / "inner" / "t.zip", **members))
    assert path == tmp_path / "inner" / name
    assert path.read_bytes() == CSV
    assert not (tmp_path / name).exists()


def test_a_downloaded_archive_is_read_as_the_table_in_it(tmp_path: Path) -> None:
    file, raw = read_raw_table("u", write_file(tmp_path / "t.csv.gz", PACKED_CSV), CLIENTS)
    assert file == tmp_path / "t.csv"
    assert raw.to_dict("list") == {"ID": [1], "AGE": [24]}


def test_a_local_file_is_copied_and_nothing_half_is_left(tmp_path: Path) -> None:
    source = write_file(tmp_path / "t.csv", CSV)
    copy = fetch(str(source), tmp_path / "folder", attempts=1, stall_seconds=1)
    assert copy == tmp_path / "folder" / "t.csv"
    assert copy.read_bytes() == CSV
    assert [path.name for path in copy.parent.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("part", r"answered 206 Partial Content: a part, 8000 of 16004 bytes, not the whole file"),
        ("nothing", "answered 204 No Content, not the whole file"),
        ("unchanged", "answered 304 Not Modified, not the whole file"),
        ("cut", r"cut off after 8,002 of 16,004 bytes"),
        ("circle", r"redirects in a loop \(10 times\)"),
    ],
)
def test_an_answer_that_is_not_the_whole_file_is_refused_and_leaves_none(
    tmp_path: Path, behaviour: str, words: str
) -> None:
    with FaultyServer() as server:
        server.files["t.csv"] = b"a,b\n" + b"1,2\n" * 4000
        url = server.url(f"{behaviour}/t.csv")
        with pytest.raises(DownloadFailed, match=words) as refused:
            fetch(url, tmp_path, attempts=1, stall_seconds=5)
    assert str(refused.value).startswith(url)
    assert not (tmp_path / "t.csv").exists()


def test_a_relative_path_is_relative_to_the_repository_and_an_address_is_not_touched() -> None:
    assert resolve_path("data/uci.yaml") == str(ROOT / "data" / "uci.yaml")
    assert resolve_path("https://example.org/../t.csv") == "https://example.org/../t.csv"


def test_a_source_within_the_repository_is_recorded_in_the_same_words_on_any_machine() -> None:
    assert to_recorded_path(resolve_path("data/sample.csv.gz")) == "data/sample.csv.gz"
    assert to_recorded_path("https://example.org/t.csv") == "https://example.org/t.csv"
    assert to_recorded_path("/elsewhere/t.csv") == "/elsewhere/t.csv"


def test_any_one_accepted_digest_of_the_file_or_its_content_will_do(tmp_path: Path) -> None:
    packed, plain = write_file(tmp_path / "t.csv.gz", b"packed"), write_file(tmp_path / "t.csv", CSV)
    verify_digest([packed, plain], [compute_sha256(plain), "0" * 64], "u")
    verify_digest([packed, plain], [compute_sha256(packed)], "u")
    verify_digest([packed, plain], [], "u")


def read_columns(dataset: str) -> Columns:
    """Read a description by name or path; only a runs:/ URI needs the step's run, so the test opens none."""
    return read_description(cast(StepRun, None), dataset)


def test_a_data_set_is_found_by_name_and_by_path() -> None:
    by_name, by_path, absolute = (
        read_columns(name) for name in ("uci", "data/uci.yaml", str(ROOT / "data" / "uci.yaml"))
    )
    assert by_name == by_path == absolute
    assert by_name.target == "default"
