"""Every data set described in data/ composes; the sample is small, synthetic and fits its description."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from pipeline.config import parse_config
from stepkit.paths import ROOT
from tests.support.repo import get_name, list_files
from tests.support.small_data import compose_config

DATA_SETS = sorted(path.stem for path in (ROOT / "data").glob("*.yaml"))
SAMPLE = ROOT / "data" / "sample.csv.gz"
LARGEST_SAMPLE = 1_200_000
MACHINE_FOLDERS = ("root", "home", "work")
MACHINE_PATH = re.compile(r"(file://|(?<![\w.:/~>}-]))/(" + "|".join(MACHINE_FOLDERS) + r")/[A-Za-z]")

needs_sample = pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample is not made yet: mlflow run ./simulate")


def read_content(path: Path) -> bytes:
    """Return a file's bytes, decompressed if it is a .gz."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def find_files_with(row: bytes, among: list[Path]) -> list[Path]:
    """Return the files that contain a row of a table, with any text before and after its values."""
    return [path for path in among if row in read_content(path)]


def read_text(path: Path) -> str | None:
    """Return a file's text, or None for a binary file."""
    raw = path.read_bytes()
    return None if b"\0" in raw[:8192] else raw.decode("utf-8", errors="replace")


def find_machine_paths(text: str) -> list[str]:
    """Return the lines that name a folder of a particular machine."""
    return [line.strip() for line in text.splitlines() if MACHINE_PATH.search(line)]


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_described_data_set_can_be_chosen(name: str) -> None:
    data = parse_config(compose_config(f"data={name}")).data
    assert data.name == name
    assert data.description
    assert data.stratify in (None, data.target, *data.names)
    assert [column for column, described in data.columns.items() if not described.meaning] == []


def test_the_default_data_set_lies_in_the_repository() -> None:
    assert parse_config(compose_config()).data.file_url == f"data/{SAMPLE.name}"


@needs_sample
def test_the_sample_is_small() -> None:
    assert SAMPLE.stat().st_size < LARGEST_SAMPLE


@needs_sample
def test_the_sample_has_the_described_columns() -> None:
    data = parse_config(compose_config("data=sample")).data
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as file:
        header = file.readline().strip().split(",")
    assert set(header) == {*data.names, data.source_target, data.id_column}


def test_the_sample_says_that_it_is_synthetic() -> None:
    assert "synthetic" in (ROOT / "data" / "sample.yaml").read_text(encoding="utf-8").lower()
    assert "synthetic" in parse_config(compose_config("data=sample")).data.description.lower()


def test_no_row_of_the_real_data_is_in_the_repository(real_data: Path) -> None:
    with real_data.open("rb") as file:
        rows = [line.strip() for line in (file.readline() for _ in range(3)) if line[:2] == b"1,"]
    (first,) = rows
    values = first.split(b",", 1)[1]
    assert values.count(b",") >= 20
    assert [get_name(path) for path in find_files_with(values, list(list_files()))] == []


def test_a_row_is_found_in_plain_and_in_packed_files(tmp_path: Path) -> None:
    plain, packed, other = tmp_path / "a.csv", tmp_path / "b.csv.gz", tmp_path / "c.csv"
    plain.write_bytes(b"ID,a,b\n9,20000,2\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    other.write_bytes(b"ID,a,b\n9,20001,2\n")
    assert find_files_with(b"20000,2", [plain, packed, other]) == [plain, packed]


def test_no_text_names_a_folder_of_one_machine() -> None:
    # The folders of an image are the same on every machine.
    outside = [path for path in list_files() if not get_name(path).startswith("docker/")]
    matches = {
        get_name(path): lines for path in outside if (text := read_text(path)) and (lines := find_machine_paths(text))
    }
    assert matches == {}


@pytest.mark.parametrize("folder", MACHINE_FOLDERS)
def test_a_machines_folder_is_found_in_a_text_and_an_address_is_not(folder: str) -> None:
    path = f"/{folder}/someone"
    assert find_machine_paths(f"see {path}/data.csv\nnothing here") == [f"see {path}/data.csv"]
    assert find_machine_paths(f"open('{path}')") == [f"open('{path}')"]
    assert find_machine_paths(f"file://{path}") == [f"file://{path}"]
    assert find_machine_paths(f"https://example.org{path}") == []
    assert find_machine_paths(f"/{folder}/") == []
