"""The finished chunks of a batch run are used again only if they are intact, in their place, and of the same plan."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from serve.batch.checkpoint import Parts
from stepkit.errors import BadParameter

PLAN = {"input": "clients.csv", "model version": "3"}
CHUNKS = 3


def chunk(number: int) -> pa.Table:
    return pa.table({"probability": [number / 10, 0.5], "job": ["cook", None]})


def scored(output: Path) -> tuple[int, bytes]:
    """Run to the end as batch does; return how many chunks were there already, and the output."""
    parts = Parts(output, PLAN)
    done = parts.done
    for number in range(done, CHUNKS):
        parts.keep(number, chunk(number))
    rows = parts.join()
    parts.close()
    assert rows == 2 * CHUNKS
    assert not parts.folder.exists()
    return done, output.read_bytes()


def broken_off(output: Path) -> list[Path]:
    """Keep all chunks, and end without the output; return the files of the chunks."""
    parts = Parts(output, PLAN)
    for number in range(CHUNKS):
        parts.keep(number, chunk(number))
    parts.close()
    return sorted(parts.folder.glob("*.arrow"))


def flip(path: Path, place: float) -> None:
    """Flip one bit of the file; 0 is its beginning, 1 its end."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("x")


def take_from_another_plan(path: Path) -> None:
    other = Parts(path.parent.with_name("other.csv"), {**PLAN, "model version": "4"})
    other.keep(1, chunk(9))
    other.close()
    shutil.copy(other.folder / path.name, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"bit at {place:.0%}": partial(flip, place=place) for place in (0, 0.1, 0.35, 0.5, 0.7, 0.9, 1)},
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": Path.unlink,
    "text": lambda path: path.write_text("probability\n0.5\n"),
    "another chunk": lambda path: shutil.copy(path.with_name("00000000.arrow"), path),
    "another plan": take_from_another_plan,
    "folder": replace_by_folder,
}


@pytest.mark.parametrize(("damage", "ending"), [*((name, ".csv") for name in DAMAGES), ("bit at 50%", ".parquet")])
def test_a_damaged_chunk_is_computed_again(damage: str, ending: str, tmp_path: Path) -> None:
    output = tmp_path / f"scored{ending}"
    undisturbed = scored(tmp_path / f"undisturbed{ending}")[1]
    DAMAGES[damage](broken_off(output)[1])
    assert scored(output) == (1, undisturbed)


def test_intact_chunks_are_used_again_and_foreign_files_removed(tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    first = broken_off(output)[0]
    (first.parent / "notes.txt").write_text("x")
    (first.parent / "folder").mkdir()
    assert scored(output)[0] == CHUNKS


@pytest.mark.parametrize("plan", ["", "[]", "null", "\0", json.dumps(PLAN)[:-3]])
def test_without_a_readable_plan_no_chunk_is_used(plan: str, tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    (broken_off(output)[0].parent / "plan.json").write_text(plan)
    assert scored(output)[0] == 0


def test_a_chunk_that_is_damaged_before_the_end_makes_no_shorter_output(tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    broken_off(output)
    parts = Parts(output, PLAN)
    flip(parts.folder / "00000001.arrow", 0.5)
    with pytest.raises(BadParameter, match="damaged meanwhile"):
        parts.join()
    parts.close()
    assert not output.exists()
    assert scored(output)[0] == 1
