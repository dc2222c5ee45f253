"""batch: a table of raw rows (CSV or Parquet, of any size) -> a table of their probabilities and classes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

from serve.batch.checkpoint import Checkpoint, Plan
from serve.batch.fetch_model import fetch_model
from serve.batch.read_chunks import ColumnSelection, get_format, iter_chunks, read_header, verify_columns
from serve.errors import ModelRefused
from serve.model.onnx_graph import Graph, Rows
from stepkit.errors import BadParameter, TableUnfit, TableUnreadable
from stepkit.paths import resolve_path
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser, make_positive_parser
from stepkit.store.model_address import ADDRESSES, DEFAULT_ADDRESS, RegisteredVersion

OUTPUT_COLUMNS = ("probability", "class", "model_version")
KEEP_OTHERS, KEEP_ALL, KEEP_NONE = "others", "all", "none"
CHUNK_ROWS = 20_000
INTERRUPTED_STATUS = 130
"""The exit status of a command that Ctrl-C ended."""


@dataclass(frozen=True)
class Job:
    """What is to be scored, where to, and which of its columns go along."""

    source: Path
    output: Path
    model: str
    keep: str
    chunk_rows: int


def make_scoring_parser(prog: str, doc: str | None, source: str, output: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that batch and Spark share; `source` and `output` describe the two tables."""
    parser = Parser(prog=prog, description=doc)
    parser.add_argument("--input", required=True, help=source)
    parser.add_argument("--output", required=True, help=output)
    parser.add_argument("--model", default=DEFAULT_ADDRESS, help=f"{ADDRESSES} ({DEFAULT_ADDRESS})")
    parser.add_argument(
        "--keep",
        default=KEEP_OTHERS,
        help=f"input columns to copy: {KEEP_OTHERS} (than the model's), {KEEP_ALL}, {KEEP_NONE}, or a,b,c",
    )
    return parser


def make_parser() -> argparse.ArgumentParser:
    output = "the table to write: .csv or .parquet; an old one is replaced"
    parser = make_scoring_parser("batch", __doc__, "the table to score: .csv or .parquet", output)
    parser.add_argument(
        "--chunk_rows",
        type=make_positive_parser(int),
        default=CHUNK_ROWS,
        help=f"rows that are scored at once ({CHUNK_ROWS})",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    job = Job(Path(resolve_path(args.input)), Path(resolve_path(args.output)), args.model, args.keep, args.chunk_rows)
    try:
        with exit_on_error():
            print(run(job), flush=True)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last finished chunk", file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)


def run(job: Job) -> str:
    """Score the table; return in words what was done.

    Raises:
        BadParameter: a file, folder or model that is not there or cannot be used.
        TableUnfit, TableUnreadable: the table; nothing of the run stays then.
        ModelRefused, ProcessLost: the model fails, or the process that loads it was killed.
        SystemExit: the model cannot be loaded, and that has been printed.
    """
    _verify_paths(job)
    header = read_header(job.source)
    version, model = fetch_model(job.model)
    wanted = ColumnSelection(model.numeric, model.text, select_kept_columns(job.keep, job.source, header, model.names))
    verify_columns(job.source, header, wanted)
    parts = Checkpoint(job.output, _build_plan(job, version, wanted))
    try:
        return _score_and_write(job, model, wanted, parts)
    except (TableUnfit, TableUnreadable, ModelRefused):
        parts.remove()
        raise
    except OSError as error:
        raise BadParameter(
            f"{job.output} cannot be written: {error.strerror or error}. Mend that and type the same command again; "
            f"it goes on with what is finished, in {parts.folder}."
        ) from error
    finally:
        parts.close()


def _verify_paths(job: Job) -> None:
    """See to it that both files can be what they shall be, before anything is loaded."""
    for path in (job.source, job.output):
        get_format(path)
    if not job.source.is_file():
        raise BadParameter(f"there is no file {job.source}. Name the table to score: -P input=FILE")
    if not job.output.parent.is_dir():
        raise BadParameter(f"there is no folder {job.output.parent} for {job.output.name}. Make it, or name another.")
    if job.output.is_dir():
        raise BadParameter(f"{job.output} is a folder. Name a file: -P output=FILE")
    if job.output.exists() and job.output.samefile(job.source):
        raise BadParameter(f"input and output are both {job.source}. Name another output: -P output=FILE")


def select_kept_columns(
    keep: str, source: Path | str, header: Sequence[str], features: Sequence[str]
) -> tuple[str, ...]:
    """Return the input's columns that go along to the output, in the input's order or the one that was typed.

    Raises:
        BadParameter: one that is not in the input, or has the name of an answer.
    """
    choices = {KEEP_OTHERS: [name for name in header if name not in features], KEEP_ALL: list(header), KEEP_NONE: []}
    kept = choices.get(keep, [*dict.fromkeys(name.strip() for name in keep.split(",") if name.strip())])
    if unknown := [name for name in kept if name not in header]:
        raise BadParameter(f"keep names the column {unknown[0]}, which {source} has not: {', '.join(header)[:300]}.")
    if taken := [name for name in kept if name in OUTPUT_COLUMNS]:
        raise BadParameter(
            f"the column {taken[0]} of {source} has the name of one of the answers. Rename it, or leave it out: "
            "-P keep=COLUMN,COLUMN or -P keep=none"
        )
    return tuple(kept)


def _build_plan(job: Job, version: RegisteredVersion, wanted: ColumnSelection) -> Plan:
    """Return everything on which the output's rows depend. A file that was written to has another time of change."""
    return {
        "input": _read_file_state(job.source),
        "model version": f"{version.uri} {version.source}",
        "kept columns": ",".join(wanted.kept),
        "chunk_rows": str(job.chunk_rows),
    }


def _read_file_state(path: Path) -> str:
    stat = path.stat()
    return f"{path} {stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _score_and_write(job: Job, model: Graph, wanted: ColumnSelection, parts: Checkpoint) -> str:
    """Score what is not scored yet, and write the output."""
    start = time.monotonic()
    before = parts.rows
    if parts.changed:
        print(f"starting anew: {parts.changed} changed since the run that was broken off", flush=True)
    elif before:
        print(f"going on after row {before:,}: {parts.done} chunks are finished already", flush=True)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(job.source.name, total=1.0)
        for number, table, share in _iter_scored_chunks(job, model, wanted, parts.done):
            parts.keep(number, table)
            progress.update(task, completed=share, description=f"{job.source.name}: {parts.rows:,} rows")
    # a file that is written to while it is read is two files
    if _read_file_state(job.source) != parts.plan["input"]:
        raise TableUnfit(f"{job.source} was changed while it was read. Type the same command again.")
    if not parts.rows:
        raise TableUnreadable(f"{job.source} has a header and no rows.")
    rows, seconds = parts.join(), time.monotonic() - start
    return (
        f"scored {rows - before:,} of {rows:,} rows by version {model.version} of {model.name} in {seconds:.1f} s "
        f"-> {job.output}"
    )


def _iter_scored_chunks(
    job: Job, model: Graph, wanted: ColumnSelection, done: int
) -> Iterator[tuple[int, pa.Table, float]]:
    """Yield the answers to each chunk that is not `done`, in order, scored on all cores and not read far ahead."""
    cores = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[pa.Table], float]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for number, (table, share) in islice(enumerate(iter_chunks(job.source, wanted, job.chunk_rows)), done, None):
            waiting.append((number, pool.submit(score_chunk, model, table, wanted.kept), share))
            if len(waiting) > cores:
                first, future, read = waiting.popleft()
                yield first, future.result(), read
        for first, future, read in waiting:
            yield first, future.result(), read


def to_model_rows(model: Graph, table: pa.Table) -> Rows:
    """Return the model's columns of n rows of `chunks` as arrays."""
    numbers = np.empty((len(model.numeric), table.num_rows))
    for place, name in enumerate(model.numeric):
        numbers[place] = table.column(name).to_numpy()  # null becomes NaN
    texts = {name: pc.fill_null(pc.cast(table.column(name), pa.string()), "").to_numpy() for name in model.text}
    return Rows(model.numeric, numbers, texts, table.num_rows)


def score_chunk(model: Graph, table: pa.Table, kept: Sequence[str]) -> pa.Table:
    """Return n rows: the kept columns, the probability, the class and the version of the model that gave them."""
    scores = model.score(to_model_rows(model, table))
    probability, predicted, version = OUTPUT_COLUMNS
    return (
        table.select(list(kept))
        .append_column(probability, pa.array(scores.probability, pa.float64()))
        .append_column(predicted, pa.array(scores.predicted, pa.int64()))
        .append_column(version, pa.array([int(model.version)] * table.num_rows, pa.int64()))
    )


if __name__ == "__main__":
    main()
