"""Finished chunks of a batch run are reused only if they are intact, in their position, and of the same plan."""

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


def make_chunk(number: int) -> pa.Table:
    return pa.table({"probability": [number / 10, 0.5], "job": ["cook", None]})


def run_to_the_end(output: Path) -> tuple[int, bytes]:
    """Finish a run as batch does; return the number of chunks that were already finished, and the output."""
    checkpoint = Checkpoint(output, PLAN)
    done = checkpoint.done
    for number in range(done, CHUNKS):
        checkpoint.add(number, make_chunk(number))
    rows = checkpoint.join()
    checkpoint.close()
    assert rows == 2 * CHUNKS
    assert not checkpoint.folder.exists()
    return done, output.read_bytes()


def interrupt_run(output: Path) -> list[Path]:
    """Store all chunks, but write no output; return the files of the chunks."""
    checkpoint = Checkpoint(output, PLAN)
    for number in range(CHUNKS):
        checkpoint.add(number, make_chunk(number))
    checkpoint.close()
    return sorted(checkpoint.folder.glob("*.arrow"))


def flip_bit(path: Path, position: float) -> None:
    """Flip one bit of a file, at a position from 0 (start) to 1 (end)."""
    content = bytearray(path.read_bytes())
    content[int(position * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def take_from_another_plan(path: Path) -> None:
    checkpoint = Checkpoint(path.parent.with_name("other.csv"), {**PLAN, "model version": "4"})
    checkpoint.add(1, make_chunk(9))
    checkpoint.close()
    shutil.copy(checkpoint.folder / path.name, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"bit at {position:.0%}": partial(flip_bit, position=position) for position in (0, 0.1, 0.35, 0.5, 0.7, 0.9, 1)},
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
    expected = run_to_the_end(tmp_path / f"expected{ending}")[1]
    DAMAGES[damage](interrupt_run(output)[1])
    assert run_to_the_end(output) == (1, expected)


@pytest.mark.parametrize("plan", [json.dumps(PLAN), "", "[]", "\0", json.dumps(PLAN)[:-3]])
def test_intact_chunks_are_reused_even_if_the_plan_file_is_damaged(plan: str, tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    (interrupt_run(output)[0].parent / "plan.json").write_text(plan)
    assert run_to_the_end(output)[0] == CHUNKS


def test_chunks_of_another_plan_are_deleted_and_the_difference_is_named(tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    chunks = interrupt_run(output)
    checkpoint = Checkpoint(output, {**PLAN, "model version": "4"})
    assert (checkpoint.done, checkpoint.rows, checkpoint.changed) == (0, 0, "model version")
    assert not any(path.exists() for path in chunks)
    checkpoint.close()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_output_has_the_chunks_in_order(ending: str, tmp_path: Path) -> None:
    output = tmp_path / f"out{ending}"
    checkpoint = Checkpoint(output, PLAN)
    for number in (1, 0):
        checkpoint.add(number, pa.table({"a": [number * 2, number * 2 + 1]}))
    assert checkpoint.join() == 4
    checkpoint.close()
    table = pd.read_csv(output) if ending == ".csv" else pd.read_parquet(output)
    assert table["a"].tolist() == [0, 1, 2, 3]


def test_bytes_that_are_not_text_fail_in_the_first_chunk_that_has_them(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "out.csv", PLAN)
    checkpoint.add(0, pa.table({"a": [1], "b": [b"text"]}))
    with pytest.raises(TableUnfit, match=r"column b \(binary\)"):
        checkpoint.add(1, pa.table({"a": [2], "b": [b'"\xff']}))
    checkpoint.close()


def test_a_chunk_that_is_damaged_before_the_end_makes_no_shorter_output(tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    interrupt_run(output)
    checkpoint = Checkpoint(output, PLAN)
    flip_bit(checkpoint.folder / "00000001.arrow", 0.5)
    with pytest.raises(BadParameter, match="finished chunks were damaged"):
        checkpoint.join()
    checkpoint.close()
    assert not output.exists()
    assert run_to_the_end(output)[0] == 1
