"""simulate: a number of rows and a seed -> a table of made-up credit card clients (CSV or Parquet)."""

import argparse
import gzip
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from simulate.clients import chunks
from simulate.figures import COLUMNS, TARGET
from stepkit.files import replacing, sha256_of
from stepkit.step.exit import one_message
from stepkit.step.project_run import log_to_run

log = logging.getLogger("simulate")

ROOT = Path(__file__).resolve().parent.parent
ENDINGS = (".csv", ".csv.gz", ".parquet")

Put = Callable[[pd.DataFrame], None]


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def row_count(text: str) -> int:
    """Return `text` as a number of rows; raises ArgumentTypeError unless it is a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of rows; give a whole number from 1, e.g. 30000")
    return int(text)


def seed_number(text: str) -> int:
    """Return `text` as a seed; raises ArgumentTypeError unless it is a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no seed; give a whole number from 0, e.g. 42")
    return int(text)


def target_path(text: str) -> Path:
    """Return the absolute path of the table to write; a relative one is relative to the repository root."""
    path = Path(os.path.abspath(ROOT / text))  # noqa: PTH100 - resolve() would write through a symlinked target
    if not path.name.endswith(ENDINGS) or path.name in ENDINGS:
        raise argparse.ArgumentTypeError(f"'{path}' has an unknown ending; end it in .csv, .csv.gz or .parquet")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"folder '{path.parent}' does not exist; make it first: mkdir -p '{path.parent}'"
        )
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"'{path}' cannot be written; choose a file in a folder you may write to")
    return path


@contextmanager
def open_table(path: Path, ending: str) -> Iterator[Put]:
    """Yield a function that appends a table to the file at `path`; same tables, same bytes."""
    with path.open("wb") as raw:
        if ending == ".parquet":
            with pq.ParquetWriter(raw, pa.schema([(name, pa.int64()) for name in COLUMNS])) as writer:
                yield lambda table: writer.write_table(pa.Table.from_pandas(table, writer.schema, preserve_index=False))
        elif ending == ".csv.gz":
            # Neither time nor file name in the header: they would make every file differ.
            with gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
                yield lambda table: put_csv(table, packed)
        else:
            yield lambda table: put_csv(table, raw)


def put_csv(table: pd.DataFrame, stream: BinaryIO | gzip.GzipFile) -> None:
    """Append `table` to `stream`, after a header if it is the first."""
    stream.write(table.to_csv(index=False, header=stream.tell() == 0, lineterminator="\n").encode())


def write_clients(path: Path, ending: str, rows: int, seed: int) -> float:
    """Write `rows` clients to `path`, chunk by chunk in bounded memory, and return their default share."""
    defaults = 0
    with open_table(path, ending) as put:
        for table in chunks(rows, seed):
            put(table)
            defaults += int(table[TARGET].sum())
    return defaults / rows


def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(prog="simulate", description=__doc__)
    parser.add_argument("--rows", type=row_count, required=True, help="number of clients, at least 1")
    parser.add_argument("--seed", type=seed_number, default=42, help="the same seed gives the same clients")
    parser.add_argument("--output", type=target_path, required=True, help="file; relative to the repository root")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")

    ending = next(ending for ending in ENDINGS if args.output.name.endswith(ending))
    with replacing(args.output) as part:
        default_share = write_clients(part, ending, args.rows, args.seed)
        size, sha256 = part.stat().st_size, sha256_of(part)
    log.info("wrote %s: %s rows, %s bytes", args.output, f"{args.rows:,}", f"{size:,}")
    log.info("default share %.4f, sha256 %s", default_share, sha256)
    log_to_run({"rows": args.rows, "bytes": size, "default_share": default_share}, sha256=sha256)


if __name__ == "__main__":
    with one_message():
        main()
