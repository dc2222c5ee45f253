"""download: names and endings of files, and the one table in an archive."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import cast

import pytest

from download.fetch import fetch, file_name, with_ending
from download.run import as_it_came, expect_digest, read_description, read_raw, shown
from download.unpack import unpacked
from stepkit.errors import BadParameter, DownloadFailed, TableUnreadable, WrongDigest
from stepkit.paths import ROOT, from_root
from stepkit.step.run import StepRun
from stepkit.table.columns import Columns
from stepkit.table.tables import sha256_of
from tests.support.faulty_http_server import FaultyServer
from tests.support.small_data import CLIENTS

CSV = b"ID,AGE\n1,24\n"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(path: Path, **members: bytes) -> Path:
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
    assert file_name(url) == name


PACKED_CSV = gzip.compress(CSV, mtime=0)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("t.csv", CSV),
        ("t.CSV", CSV),
        ("t.csv.gz", PACKED_CSV),
        ("t.zip", b"PK\x03\x04"),
        ("t.xlsx", b"PK\x03\x04"),
        ("t.parquet", b"PAR1"),
        ("t.xls", b"\xd0\xcf\x11\xe0"),
        ("t.parquet", b"\0\0\0\0"),
    ],
)
def test_an_ending_that_fits_the_first_bytes_is_kept(tmp_path: Path, name: str, start: bytes) -> None:
    assert with_ending(written(tmp_path / name, start)) == tmp_path / name


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("t.zip", b"<html>Not found</html>", "t.zip.csv"),
        ("t.csv", PACKED_CSV, "t.csv.csv.gz"),
        ("t.csv.gz", CSV, "t.csv.gz.csv"),
        ("t.csv", b"PAR1....", "t.csv.parquet"),
    ],
)
def test_a_name_that_promises_another_format_gets_the_ending_of_the_content(
    tmp_path: Path, name: str, start: bytes, expected: str
) -> None:
    assert with_ending(written(tmp_path / name, start)).name == expected


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"PK\x03\x04....", "export.zip"),
        (b"PAR1....", "export.parquet"),
        (b"\xd0\xcf\x11\xe0....", "export.xls"),
        (b"\x1f\x8b....", "export.csv.gz"),
        (CSV, "export.csv"),
        (b"", "export.csv"),
    ],
)
def test_a_file_without_a_known_ending_gets_the_one_of_its_first_bytes(tmp_path: Path, start: bytes, name: str) -> None:
    path = with_ending(written(tmp_path / "export", start))
    assert path == tmp_path / name
    assert path.read_bytes() == start


def test_a_table_that_is_not_packed_is_returned_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", CSV)
    assert unpacked(path) == path


def test_a_gzip_file_is_unpacked_beside_itself(tmp_path: Path) -> None:
    path = unpacked(written(tmp_path / "t.csv.gz", gzip.compress(CSV)))
    assert path == tmp_path / "t.csv"
    assert path.read_bytes() == CSV


def test_what_was_packed_gets_the_ending_of_its_content(tmp_path: Path) -> None:
    assert unpacked(written(tmp_path / "export.gz", gzip.compress(CSV))) == tmp_path / "export.csv"
    with pytest.raises(TableUnreadable, match=r"records\.json\.csv is JSON\. Save the table .* It came from https://u"):
        read_raw("https://u", written(tmp_path / "records.json.gz", gzip.compress(b'[{"a": 1}]')), CLIENTS)


def test_the_one_table_of_a_zip_is_unpacked_beside_it(tmp_path: Path) -> None:
    path = unpacked(zipped(tmp_path / "t.zip", **{"folder/clients.csv": CSV, "readme.txt": b"hello"}))
    assert path == tmp_path / "clients.csv"
    assert path.read_bytes() == CSV


def test_a_zip_cannot_write_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = unpacked(zipped(tmp_path / "inner" / "t.zip", **{"../outside.csv": CSV}))
    assert path == tmp_path / "inner" / "outside.csv"
    assert not (tmp_path / "outside.csv").exists()


@pytest.mark.parametrize(
    ("members", "held"),
    [
        ({"a.csv": CSV, "b.csv": CSV}, r"holds 2: a\.csv, b\.csv"),
        ({"readme.txt": CSV}, r"holds 0: none \(only readme\.txt\)"),
    ],
)
def test_a_zip_with_another_number_of_tables_is_refused(tmp_path: Path, members: dict[str, bytes], held: str) -> None:
    with pytest.raises(TableUnreadable, match=rf"t\.zip must hold exactly one table, and {held}"):
        unpacked(zipped(tmp_path / "t.zip", **members))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.csv.gz", gzip.compress(CSV * 100, mtime=0)[:-10]),
        ("other.csv.gz", CSV),
        (
            "flipped.csv.gz",
            gzip.compress(CSV * 100, mtime=0)[:12] + b"\xff\xff\xff\xff" + gzip.compress(CSV * 100, mtime=0)[16:],
        ),
        ("cut.zip", b"PK\x03\x04 and no more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(TableUnreadable, match=f"{name} is damaged or cut off"):
        unpacked(written(tmp_path / name, content))


@pytest.mark.parametrize("name", ["t.csv", "t.zip", "t.csv.gz"])
def test_an_empty_download_is_refused_as_empty_with_its_address(tmp_path: Path, name: str) -> None:
    path = with_ending(written(tmp_path / name, b""))
    with pytest.raises(TableUnreadable, match=r"is empty \(0 bytes\).* It came from https://u"):
        read_raw("https://u", path, CLIENTS)


def test_a_downloaded_archive_is_read_as_the_table_in_it(tmp_path: Path) -> None:
    file, raw = read_raw("u", written(tmp_path / "t.csv.gz", PACKED_CSV), CLIENTS)
    assert file == tmp_path / "t.csv"
    assert raw.to_dict("list") == {"ID": [1], "AGE": [24]}


def test_the_shadow_files_of_macos_are_no_tables(tmp_path: Path) -> None:
    path = unpacked(zipped(tmp_path / "t.zip", **{"t.csv": CSV, "__MACOSX/._t.csv": b"shadow"}))
    assert path.read_bytes() == CSV


def test_a_local_file_is_copied_and_nothing_half_is_left(tmp_path: Path) -> None:
    source = written(tmp_path / "t.csv", CSV)
    copy = fetch(str(source), tmp_path / "folder", attempts=1, stall_seconds=1)
    assert copy == tmp_path / "folder" / "t.csv"
    assert copy.read_bytes() == CSV
    assert [path.name for path in copy.parent.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("address", ["{folder}/none.csv", "file://{folder}/none.csv"])
def test_a_path_that_is_not_there_is_named(tmp_path: Path, address: str) -> None:
    url = address.format(folder=tmp_path)
    with pytest.raises(DownloadFailed, match=f"nothing found at {url}"):
        fetch(url, tmp_path / "folder", attempts=2, stall_seconds=1)


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


def test_an_address_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"gopher://x/t\.csv cannot be read: .*gopher"):
        fetch("gopher://x/t.csv", tmp_path, attempts=1, stall_seconds=1)


def test_a_relative_path_is_relative_to_the_repository_and_an_address_is_not_touched() -> None:
    assert from_root("data/uci.yaml") == str(ROOT / "data" / "uci.yaml")
    assert from_root("https://example.org/../t.csv") == "https://example.org/../t.csv"


def test_a_source_within_the_repository_is_recorded_in_the_same_words_on_any_machine() -> None:
    assert shown(from_root("data/sample.csv.gz")) == "data/sample.csv.gz"
    assert shown("https://example.org/t.csv") == "https://example.org/t.csv"
    assert shown("/elsewhere/t.csv") == "/elsewhere/t.csv"


def test_any_one_accepted_digest_of_the_file_or_its_content_will_do(tmp_path: Path) -> None:
    packed, plain = written(tmp_path / "t.csv.gz", b"packed"), written(tmp_path / "t.csv", CSV)
    expect_digest([packed, plain], [sha256_of(plain), "0" * 64], "u")
    expect_digest([packed, plain], [sha256_of(packed)], "u")
    expect_digest([packed, plain], [], "u")


def test_another_digest_is_refused_with_both(tmp_path: Path) -> None:
    packed = written(tmp_path / "t.csv", CSV)
    with pytest.raises(WrongDigest, match=rf"https://u has sha256 {sha256_of(packed)}, expected 00 or 11"):
        expect_digest([packed], ["00", "11"], "https://u")


def described(dataset: str) -> Columns:
    """Read a description by name or path; only an artifact's address needs the step's run, so none is opened."""
    return read_description(cast(StepRun, None), dataset)


def test_a_data_set_is_found_by_name_and_by_path() -> None:
    by_name, by_path, absolute = (described(name) for name in ("uci", "data/uci.yaml", str(ROOT / "data" / "uci.yaml")))
    assert by_name == by_path == absolute
    assert by_name.target == "default"


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadParameter, match=r"no data set 'ucy'\. Known: .*uci"):
        described("ucy")


@pytest.mark.parametrize(
    ("file", "name", "kept"),
    [
        ("t.csv", "raw_data.csv", True),
        ("t.parquet", "raw_data.parquet", True),
        ("t.csv", "raw_data.parquet", False),
        ("t.parquet", "raw_data.csv", False),
        ("t.xlsx", "raw_data.xlsx", False),
    ],
)
def test_a_file_of_the_wanted_format_is_published_as_it_came(file: str, name: str, kept: bool) -> None:
    assert as_it_came(Path(file), name) == (Path(file) if kept else None)
