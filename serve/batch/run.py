"""batch: score a table of raw rows (CSV or Parquet, of any size) and write their probabilities and classes."""

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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

from serve.batch.checkpoint import Checkpoint, Plan
from serve.batch.read_chunks import ColumnSelection, get_format, iter_chunks, read_header, verify_columns
from serve.errors import ModelRefused, ReasonsUnavailable
from serve.model.fetch_model import fetch_model
from serve.model.onnx_graph import Graph, Rows
from stepkit.errors import BadParameter, TableUnfit, TableUnreadable
from stepkit.paths import resolve_path
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser, make_positive_parser, parse_count
from stepkit.store.model_address import ADDRESSES, DEFAULT_ADDRESS, RegisteredVersion
from stepkit.words import pluralize

OUTPUT_COLUMNS = ("probability", "class", "model_version")
REASON_FIELDS = {"": ("column", pa.string()), "_effect": ("effect", pa.float64()), "_text": ("reason", pa.string())}
"""End of a reason's output column, with the field of the reason and its type."""
KEEP_OTHERS, KEEP_ALL, KEEP_NONE = "others", "all", "none"
CHUNK_ROWS = 20_000
INTERRUPTED_STATUS = 130
"""Exit status of a command that Ctrl-C ended."""


@dataclass(frozen=True)
class Job:
    """Input, output, model and settings of a batch run."""

    source: Path
    output: Path
    model: str
    keep: str
    chunk_rows: int
    reasons: int = 0


def make_scoring_parser(prog: str, doc: str | None, source: str, output: str) -> argparse.ArgumentParser:
    """Return a parser for the flags that batch and Spark share; `source` and `output` are help texts."""
    parser = Parser(prog=prog, description=doc)
    parser.add_argument("--input", required=True, help=source)
    parser.add_argument("--output", required=True, help=output)
    parser.add_argument("--model", default=DEFAULT_ADDRESS, help=f"{ADDRESSES} (default: {DEFAULT_ADDRESS})")
    choices = f"{KEEP_OTHERS} (default: those that the model does not use), {KEEP_ALL}, {KEEP_NONE}, or a list: ID,AGE"
    parser.add_argument("--keep", default=KEEP_OTHERS, help=f"input columns to copy: {choices}")
    return parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `mlflow run ./serve -e batch`."""
    output = "table to write: .csv or .parquet; an existing one is replaced"
    parser = make_scoring_parser("batch", __doc__, "table to score: .csv or .parquet", output)
    reasons_help = "reasons to write for each row, strongest first (default: 0)"
    parser.add_argument("--reasons", type=parse_count, default=0, help=reasons_help)
    chunk_help = f"rows per chunk (default: {CHUNK_ROWS})"
    parser.add_argument("--chunk_rows", type=make_positive_parser(int), default=CHUNK_ROWS, help=chunk_help)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Score a table and print a summary."""
    args = make_parser().parse_args(argv)
    source, output = Path(resolve_path(args.input)), Path(resolve_path(args.output))
    job = Job(source, output, args.model, args.keep, args.chunk_rows, args.reasons)
    try:
        with exit_on_error():
            print(run(job), flush=True)
    except KeyboardInterrupt:
        print("interrupted. Run the same command again to resume after the last finished chunk.", file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)


def run(job: Job) -> str:
    """Score a table and write the output; return a summary for the user.

    Raises:
        BadParameter: a file, folder or model is missing or cannot be used.
        TableUnfit, TableUnreadable: the table is faulty; the finished chunks are deleted.
        ModelRefused, ProcessLost: the model fails, or the process that loads it was killed.
        SystemExit: the model cannot be loaded, and the child process has printed the reason.
    """
    _verify_paths(job)
    header = read_header(job.source)
    version, model = fetch_model(job.model)
    verify_reasons(job.reasons, model)
    copied = select_kept_columns(job.keep, job.source, header, model.names, list_reason_columns(job.reasons))
    selection = ColumnSelection(model.numeric, model.text, copied)
    verify_columns(job.source, header, selection)
    checkpoint = Checkpoint(job.output, _build_plan(job, version, selection))
    try:
        return _score_and_write(job, model, selection, checkpoint)
    except (TableUnfit, TableUnreadable, ModelRefused):
        checkpoint.remove()
        raise
    except OSError as error:
        raise BadParameter(
            f"{job.output}: cannot be written ({error.strerror or error}). Correct the cause and run the same command "
            f"again, to resume from the finished chunks in {checkpoint.folder}."
        ) from error
    finally:
        checkpoint.close()


def _verify_paths(job: Job) -> None:
    """Verify input and output before anything is loaded."""
    for path in (job.source, job.output):
        get_format(path)
    if not job.source.is_file():
        raise BadParameter(f"{job.source}: no such file. Name the table to score: -P input=FILE")
    if not job.output.parent.is_dir():
        raise BadParameter(f"{job.output}: its folder does not exist. Create it, or choose another: -P output=FILE")
    if job.output.is_dir():
        raise BadParameter(f"{job.output}: is a folder. Name a file: -P output=FILE")
    if job.output.exists() and job.output.samefile(job.source):
        raise BadParameter(f"{job.output}: output and input are the same file. Choose another: -P output=FILE")


def select_kept_columns(
    keep: str, source: Path | str, header: Sequence[str], features: Sequence[str], added: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the input columns to copy to the output, in the order of the input or of a typed list.

    `added` are output columns besides OUTPUT_COLUMNS.

    Raises:
        BadParameter: a column is not in the input, or has the name of an output column.
    """
    choices = {KEEP_OTHERS: [name for name in header if name not in features], KEEP_ALL: list(header), KEEP_NONE: []}
    copied = choices.get(keep, [*dict.fromkeys(name.strip() for name in keep.split(",") if name.strip())])
    if unknown := [name for name in copied if name not in header]:
        raise BadParameter(f"keep: {source} has no column {unknown[0]}. Its columns: {', '.join(header)[:300]}.")
    if clashing := [name for name in copied if name in (*OUTPUT_COLUMNS, *added)]:
        raise BadParameter(
            f"{source}: column {clashing[0]} has the name of an output column. Rename the column, or choose others to "
            "copy: -P keep=COLUMN,COLUMN or -P keep=none"
        )
    return tuple(copied)


def _build_plan(job: Job, version: RegisteredVersion, selection: ColumnSelection) -> Plan:
    """Return everything that determines the output; a changed file has another modification time."""
    return {
        "input": _read_file_state(job.source),
        "model version": f"{version.uri} {version.source}",
        "kept columns": ",".join(selection.copied),
        "chunk_rows": str(job.chunk_rows),
        "reasons": str(job.reasons),
    }


def _read_file_state(path: Path) -> str:
    stat = path.stat()
    return f"{path} {stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _score_and_write(job: Job, model: Graph, selection: ColumnSelection, checkpoint: Checkpoint) -> str:
    """Score the remaining chunks and write the output; return a summary."""
    start = time.monotonic()
    rows_before = checkpoint.rows
    if checkpoint.changed:
        print(f"starting from scratch: {checkpoint.changed} changed since the interrupted run", flush=True)
    elif rows_before:
        print(f"resuming after row {rows_before:,}: {checkpoint.done} chunks are finished", flush=True)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(job.source.name, total=1.0)
        for number, table, share in _iter_scored_chunks(job, model, selection, checkpoint.done):
            checkpoint.add(number, table)
            progress.update(
                task, completed=share, description=f"{job.source.name}: {pluralize(checkpoint.rows, 'row')}"
            )
    # The chunks of a file that changed meanwhile do not belong together.
    if _read_file_state(job.source) != checkpoint.plan["input"]:
        raise TableUnfit(f"{job.source}: changed during the run. Run the same command again.")
    if not checkpoint.rows:
        raise TableUnreadable(f"{job.source}: no rows, only a header.")
    rows, seconds = checkpoint.join(), time.monotonic() - start
    return (
        f"scored {rows - rows_before:,} of {pluralize(rows, 'row')} with version {model.version} of {model.name} "
        f"in {seconds:.1f} s -> {job.output}"
    )


def _iter_scored_chunks(
    job: Job, model: Graph, selection: ColumnSelection, done: int
) -> Iterator[tuple[int, pa.Table, float]]:
    """Yield each chunk after the first `done` ones, in order, scored on all cores; reads few chunks ahead."""
    cores = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[pa.Table], float]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for number, (table, share) in islice(enumerate(iter_chunks(job.source, selection, job.chunk_rows)), done, None):
            waiting.append((number, pool.submit(score_chunk, model, table, selection.copied, job.reasons), share))
            if len(waiting) > cores:
                first, future, read = waiting.popleft()
                yield first, future.result(), read
        for first, future, read in waiting:
            yield first, future.result(), read


def to_model_rows(model: Graph, table: pa.Table) -> Rows:
    """Convert the model's columns of a chunk with n rows to arrays."""
    numbers = np.empty((len(model.numeric), table.num_rows))
    for index, name in enumerate(model.numeric):
        numbers[index] = table.column(name).to_numpy()  # converts null to NaN
    texts = {name: pc.fill_null(pc.cast(table.column(name), pa.string()), "").to_numpy() for name in model.text}
    return Rows(model.numeric, numbers, texts, table.num_rows)


def verify_reasons(count: int, model: Graph) -> None:
    """Raise if the model cannot give this number of reasons.

    Raises:
        BadParameter: more reasons than columns.
        ReasonsUnavailable: the version has no reference row.
    """
    if count and model.explainer is None:
        raise ReasonsUnavailable(model.explain_missing_reasons())
    if count > len(model.names):
        raise BadParameter(
            f"--reasons: out of range (found {count}, expected 0 to {len(model.names)}, the number of columns)."
        )


def list_reason_columns(count: int) -> list[str]:
    """Return the output columns of a run with this number of reasons."""
    numbered = [f"reason_{number}{end}" for number in range(1, count + 1) for end in REASON_FIELDS]
    return [*numbered, "baseline", "protected_effect", "other"] if count else []


def build_reason_columns(explanations: list[dict[str, Any]], count: int) -> dict[str, pa.Array]:
    """Return the columns of `list_reason_columns` for n explained rows; a reason that a row lacks is null."""
    columns: dict[str, pa.Array] = {}
    for number in range(count):
        listed = [row["reasons"][number] if number < len(row["reasons"]) else {} for row in explanations]
        for end, key, kind in (
            ("", "column", pa.string()),
            ("_effect", "effect", pa.float64()),
            ("_text", "reason", pa.string()),
        ):
            columns[f"reason_{number + 1}{end}"] = pa.array([reason.get(key) for reason in listed], kind)
    for name in ("baseline", "protected_effect", "other"):
        columns[name] = pa.array([row[name] for row in explanations], pa.float64())
    return columns


def score_chunk(model: Graph, table: pa.Table, copied: Sequence[str], reasons: int = 0) -> pa.Table:
    """Return n rows: the columns to copy, the probability, the class, the model's version and the reasons."""
    rows = to_model_rows(model, table)
    scores = model.score(rows)
    probability, predicted, version = OUTPUT_COLUMNS
    output = (
        table.select(list(copied))
        .append_column(probability, pa.array(scores.probability, pa.float64()))
        .append_column(predicted, pa.array(scores.predicted, pa.int64()))
        .append_column(version, pa.array([int(model.version)] * table.num_rows, pa.int64()))
    )
    for name, column in build_reason_columns(model.explain(rows, scores, reasons), reasons).items() if reasons else ():
        output = output.append_column(name, column)
    return output


if __name__ == "__main__":
    main()
