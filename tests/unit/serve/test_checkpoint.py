"""The finished chunks of a batch run are used again only if they are intact, in their place, and of the same plan."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from serve.batch.checkpoint import Checkpoint
from stepkit.errors import BadParameter, TableUnfit

PLAN = {"input": "clients.csv", "model version": "3"}
CHUNKS = 3


def chunk(number: int) -> pa.Table:
    return pa.table({"probability": [number / 10, 0.5], "job": ["cook", None]})


def scored(output: Path) -> tuple[int, bytes]:
    """Run to the end as batch does; return how many chunks were there already, and the output."""
    parts = Checkpoint(output, PLAN)
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
    parts = Checkpoint(output, PLAN)
    for number in range(CHUNKS):
        parts.keep(number, chunk(number))
    parts.close()
    return sorted(parts.folder.glob("*.arrow"))


def flip(path: Path, place: float) -> None:
    """Flip one bit of the file; 0 is its beginning, 1 its end."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def take_from_another_plan(path: Path) -> None:
    other = Checkpoint(path.parent.with_name("other.csv"), {**PLAN, "model version": "4"})
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
}


@pytest.mark.parametrize(("damage", "ending"), [*((name, ".csv") for name in DAMAGES), ("bit at 50%", ".parquet")])
def test_a_damaged_chunk_is_computed_again(damage: str, ending: str, tmp_path: Path) -> None:
    output = tmp_path / f"scored{ending}"
    undisturbed = scored(tmp_path / f"undisturbed{ending}")[1]
    DAMAGES[damage](broken_off(output)[1])
    assert scored(output) == (1, undisturbed)


@pytest.mark.parametrize("plan", [json.dumps(PLAN), "", "[]", "\0", json.dumps(PLAN)[:-3]])
def test_intact_chunks_are_used_again_even_if_the_file_of_the_plan_is_damaged(plan: str, tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    (broken_off(output)[0].parent / "plan.json").write_text(plan)
    assert scored(output)[0] == CHUNKS


def test_chunks_of_another_plan_are_removed_and_the_difference_is_named(tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    chunks = broken_off(output)
    parts = Checkpoint(output, {**PLAN, "model version": "4"})
    assert (parts.done, parts.rows, parts.changed) == (0, 0, "model version")
    assert not any(path.exists() for path in chunks)
    parts.close()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_output_is_the_chunks_in_their_order(ending: str, tmp_path: Path) -> None:
    output = tmp_path / f"out{ending}"
    parts = Checkpoint(output, PLAN)
    for number in (1, 0):
        parts.keep(number, pa.table({"a": [number * 2, number * 2 + 1]}))
    assert parts.join() == 4
    parts.close()
    read = pd.read_csv(output) if ending == ".csv" else pd.read_parquet(output)
    assert read["a"].tolist() == [0, 1, 2, 3]


def test_bytes_that_are_no_text_are_named_by_the_first_chunk_that_has_them(tmp_path: Path) -> None:
    parts = Checkpoint(tmp_path / "out.csv", PLAN)
    parts.keep(0, pa.table({"a": [1], "b": [b"text"]}))
    with pytest.raises(TableUnfit, match=r"column b \(binary\)"):
        parts.keep(1, pa.table({"a": [2], "b": [b'"\xff']}))
    parts.close()


def test_a_chunk_that_is_damaged_before_the_end_makes_no_shorter_output(tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    broken_off(output)
    parts = Checkpoint(output, PLAN)
    flip(parts.folder / "00000001.arrow", 0.5)
    with pytest.raises(BadParameter, match="damaged meanwhile"):
        parts.join()
    parts.close()
    assert not output.exists()
    assert scored(output)[0] == 1
