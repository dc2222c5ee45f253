"""Write a table of synthetic credit card clients as CSV or Parquet; the same rows and seed give the same table."""

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

from simulate.clients import iter_client_chunks
from simulate.figures import COLUMNS, TARGET
from stepkit.files import compute_sha256, replace_file
from stepkit.paths import ROOT
from stepkit.step.exit import exit_on_error
from stepkit.step.project_run import log_to_run
from stepkit.words import pluralize

log = logging.getLogger("simulate")

ENDINGS = (".csv", ".csv.gz", ".parquet")

AppendTable = Callable[[pd.DataFrame], None]


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def make_whole_number_parser(noun: str, least: int, example: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least`; it raises ArgumentTypeError for anything else."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            problem = f"not a {noun} (found '{text}', expected a whole number of at least {least}, e.g. {example})"
            raise argparse.ArgumentTypeError(problem)
        return int(text)

    return parse


parse_row_count = make_whole_number_parser("number of rows", 1, 30000)
parse_seed = make_whole_number_parser("seed", 0, 42)


def parse_target_path(text: str) -> Path:
    """Return the absolute path of the table to write; a relative one is relative to the repository root."""
    path = Path(os.path.abspath(ROOT / text))  # noqa: PTH100 - resolve() would write through a symlinked target
    problem = ""
    if not path.name.endswith(ENDINGS) or path.name in ENDINGS:
        problem = f"{path}: unknown file type (expected .csv, .csv.gz or .parquet)"
    elif not path.parent.is_dir():
        problem = f"{path.parent}: no such folder. Create it: mkdir -p '{path.parent}'"
    elif path.is_dir() or not os.access(path.parent, os.W_OK):
        problem = f"{path}: cannot be written. Choose a file in a writable folder."
    if problem:
        raise argparse.ArgumentTypeError(problem)
    return path


def make_table_parser(prog: str, description: str | None, rows: int | None = None) -> OneLineParser:
    """Return the parser of a command that writes a table; `rows` is the default of --rows, None if it is required."""
    flags = OneLineParser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument(
        "--rows", type=parse_row_count, default=rows, required=rows is None, help="number of rows, at least 1"
    )
    flags.add_argument("--seed", type=parse_seed, default=42, help="the same seed gives the same rows")
    flags.add_argument("--output", type=parse_target_path, required=True, help="file; relative to the repository root")
    return flags


@contextmanager
def open_table(path: Path, ending: str) -> Iterator[AppendTable]:
    """Yield a function that appends a table to the file at `path`. Parquet files accept only tables of clients.

    The same tables give the same bytes.
    """
    with path.open("wb") as raw:
        if ending == ".parquet":
            with pq.ParquetWriter(raw, pa.schema([(name, pa.int64()) for name in COLUMNS])) as writer:
                yield lambda table: writer.write_table(pa.Table.from_pandas(table, writer.schema, preserve_index=False))
        elif ending == ".csv.gz":
            # A time or file name in the header would make every file different.
            with gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
                yield lambda table: append_csv(table, packed)
        else:
            yield lambda table: append_csv(table, raw)


def append_csv(table: pd.DataFrame, stream: BinaryIO | gzip.GzipFile) -> None:
    """Append `table` to `stream`; the first table writes the header."""
    stream.write(table.to_csv(index=False, header=stream.tell() == 0, lineterminator="\n").encode())


def get_ending(path: Path) -> str:
    """Return the supported ending of a file name."""
    return next(ending for ending in ENDINGS if path.name.endswith(ending))


def main(argv: list[str] | None = None) -> None:
    """Write the table, and log its size to the run of `mlflow run`."""
    args = make_table_parser("simulate", __doc__).parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    defaults = 0
    with replace_file(args.output) as part:
        with open_table(part, get_ending(args.output)) as put:
            for table in iter_client_chunks(args.rows, args.seed):  # one chunk at a time keeps memory bounded
                put(table)
                defaults += int(table[TARGET].sum())
        size, sha256 = part.stat().st_size, compute_sha256(part)
    share = defaults / args.rows
    log.info("wrote %s: %s, %s bytes", args.output, pluralize(args.rows, "row"), f"{size:,}")
    log.info("default share %.4f, sha256 %s", share, sha256)
    log_to_run({"rows": args.rows, "bytes": size, "default_share": share}, sha256=sha256)


if __name__ == "__main__":
    with exit_on_error():
        main()
