"""The finished chunks of one batch run: files in a folder beside the output, until all are there and become it.

A killed run leaves this folder behind, and the same command goes on with it. The output appears at the end, whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.feather as feather
import pyarrow.parquet as pq

from serve.batch.read_chunks import get_format
from stepkit.errors import BadParameter, TableUnfit

PLAN = "plan.json"
DIGEST_BYTES = 32
Plan = dict[str, str]
"""What a run scores, by what, and how: finished chunks are of use to a run with the same plan only."""


class Checkpoint:
    """The folder of finished chunks of one output; it is this process's alone while it is open."""

    def __init__(self, output: Path, plan: Plan) -> None:
        """Take the folder over, with the chunks that are in it if they belong to `plan`.

        Raises:
            BadParameter: the folder cannot be made, or another process writes this output now.
        """
        self.output = output
        self.plan = plan
        self.folder = output.with_name(f".{output.name}.parts")
        self._lock = self._create_and_lock()
        old = self._read_plan()
        self.changed = ", ".join(sorted(key for key in {*old, *plan} if old and old.get(key) != plan.get(key)))
        """The parts of the plan that an earlier run had otherwise, whose chunks are useless now."""
        self.done = self.rows = 0
        for table in self._iter_finished():
            self.done += 1
            self.rows += table.num_rows
        for path in {*self.folder.glob("*.arrow")} - {self._build_path(number) for number in range(self.done)}:
            path.unlink()
        (self.folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")

    def _create_and_lock(self) -> int:
        """Return the descriptor that holds the lock, until it is closed or this process is killed."""
        try:
            self.folder.mkdir(exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise BadParameter(
                f"nothing can be written beside {self.output} ({error.strerror}). "
                "Name an output in a folder that you may write to: -P output=FILE"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BadParameter(
                f"another process writes {self.output} right now. Wait, or name another output."
            ) from error
        return descriptor

    def _read_plan(self) -> Plan:
        try:
            plan = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return plan if isinstance(plan, dict) else {}

    def _build_path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.arrow"

    def _iter_finished(self) -> Iterator[pa.Table]:
        """Yield the chunks from the first on, up to one that is missing, damaged, or of another place or plan."""
        for number in itertools.count():
            try:
                content = self._build_path(number).read_bytes()
            except OSError:
                return
            # before it is parsed: one wrong bit can end the process, or be read as another value
            if content[:DIGEST_BYTES] != self._compute_digest(number, content[DIGEST_BYTES:]):
                return
            yield feather.read_table(BytesIO(content[DIGEST_BYTES:]))

    def _compute_digest(self, number: int, content: bytes) -> bytes:
        """Return the digest of a chunk, of its place, and of the plan that it belongs to."""
        place = json.dumps([self.plan, number], sort_keys=True).encode()
        return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=hashlib.sha256(place).digest()).digest()

    def keep(self, number: int, table: pa.Table) -> None:
        """Note a chunk as finished; one that is cut off by a kill or a full disk has not its digest.

        Raises:
            TableUnfit: it cannot be written to the output.
        """
        if not self._is_parquet:
            # before hours of scoring are lost on it; of bytes each chunk has to show that they are text
            to_csv(
                table if any("binary" in str(kind) for kind in table.schema.types) else table.slice(0, 0), header=True
            )
        sink = BytesIO()
        feather.write_feather(table, sink, compression="lz4")
        self._build_path(number).write_bytes(self._compute_digest(number, sink.getvalue()) + sink.getvalue())
        self.rows += table.num_rows

    def join(self) -> int:
        """Write the output, put it in its place in one stroke, and remove the chunks; return the number of rows."""
        joined = self.folder / "joined"
        with joined.open("wb") as file:
            rows = self._write(file)
            file.flush()
            os.fsync(file.fileno())
        if rows != self.rows:
            raise BadParameter(
                f"{self.folder}: finished chunks were damaged meanwhile. Type the same command again: it computes them."
            )
        joined.replace(self.output)
        self.remove()
        return rows

    def _write(self, file: BinaryIO) -> int:
        rows = 0
        writer: pq.ParquetWriter | None = None
        for table in self._iter_finished():
            if self._is_parquet:
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
            else:
                file.write(to_csv(table, header=rows == 0))
            rows += table.num_rows
        if writer:
            writer.close()
        return rows

    @property
    def _is_parquet(self) -> bool:
        return get_format(self.output) == ".parquet"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let other processes have the folder, if it is still there."""
        os.close(self._lock)


def to_csv(table: pa.Table, header: bool) -> bytes:
    """Return the table as CSV, its texts in quotation marks only where one of them needs it.

    Raises:
        TableUnfit: a column holds what CSV has no form for: lists, structures, bytes that are no text.
    """
    for quoting in ("none", "needed"):
        sink = BytesIO()
        options = pcsv.WriteOptions(include_header=header, quoting_style=quoting, quoting_header=quoting)
        try:
            pcsv.write_csv(table, sink, options)
        except pa.ArrowInvalid as error:
            refused = error
        else:
            return sink.getvalue()
    if table.num_columns > 1:
        for name in table.column_names:
            to_csv(table.select([name]), header)
    kinds = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    raise TableUnfit(
        f"no CSV can hold the column {kinds}: {refused}. Name a Parquet output (-P output=FILE.parquet), or choose "
        "other columns: -P keep=COLUMN,COLUMN"
    )
