"""Checkpoint of a batch run: finished chunks in a folder next to the output, joined to the output at the end.

A killed run leaves this folder, and the same command resumes from it. The output appears only when it is complete.
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
"""Input, model version and settings of a run; finished chunks are reused only for the same plan."""


class Checkpoint:
    """Folder of the finished chunks of one output, locked by this process until `close`.

    Attributes:
        done: number of finished chunks that were found.
        rows: number of finished rows.
        changed: keys of the plan that differ from the interrupted run, whose chunks were deleted.
    """

    def __init__(self, output: Path, plan: Plan) -> None:
        """Lock the folder; keep the intact chunks that belong to `plan`, and delete the others.

        Raises:
            BadParameter: the folder cannot be created, or another process is writing this output.
        """
        self.output = output
        self.plan = plan
        self.folder = output.with_name(f".{output.name}.parts")
        self._lock = self._create_and_lock()
        old_plan = self._read_plan()
        self.changed = ", ".join(
            sorted(key for key in {*old_plan, *plan} if old_plan and old_plan.get(key) != plan.get(key))
        )
        self.done = self.rows = 0
        for table in self._iter_finished():
            self.done += 1
            self.rows += table.num_rows
        for path in {*self.folder.glob("*.arrow")} - {self._build_path(number) for number in range(self.done)}:
            path.unlink()
        (self.folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")

    def _create_and_lock(self) -> int:
        """Create and lock the folder; return the descriptor, which keeps the lock until it is closed."""
        try:
            self.folder.mkdir(exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise BadParameter(
                f"{self.output}: folder not writable ({error.strerror}). "
                "Choose an output in a writable folder: -P output=FILE"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BadParameter(
                f"{self.output}: another process is writing this output. Wait, or choose another one: -P output=FILE"
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
        """Yield the chunks from the first one up to one that is missing, damaged, or from another position or plan."""
        for number in itertools.count():
            try:
                content = self._build_path(number).read_bytes()
            except OSError:
                return
            # Checked before parsing, because one wrong bit can crash the process or change a value.
            if content[:DIGEST_BYTES] != self._compute_digest(number, content[DIGEST_BYTES:]):
                return
            yield feather.read_table(BytesIO(content[DIGEST_BYTES:]))

    def _compute_digest(self, number: int, content: bytes) -> bytes:
        """Return the digest of a chunk, its position and its plan."""
        position = json.dumps([self.plan, number], sort_keys=True).encode()
        return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=hashlib.sha256(position).digest()).digest()

    def add(self, number: int, table: pa.Table) -> None:
        """Store a finished chunk; its digest reveals one that was cut off by a kill or a full disk.

        Raises:
            TableUnfit: the output format cannot hold the table.
        """
        if not self._is_parquet:
            # Tried now, so that hours of scoring are not lost at the end. Binary columns are tried with their values,
            # because only text can be written as CSV.
            has_binary = any("binary" in str(column_type) for column_type in table.schema.types)
            to_csv(table if has_binary else table.slice(0, 0), header=True)
        sink = BytesIO()
        feather.write_feather(table, sink, compression="lz4")
        self._build_path(number).write_bytes(self._compute_digest(number, sink.getvalue()) + sink.getvalue())
        self.rows += table.num_rows

    def join(self) -> int:
        """Write the output, move it into place atomically, and delete the chunks; return the number of rows."""
        joined = self.folder / "joined"
        with joined.open("wb") as file:
            rows = self._write(file)
            file.flush()
            os.fsync(file.fileno())
        if rows != self.rows:
            raise BadParameter(
                f"{self.folder}: finished chunks were damaged during the run. Run the same command again to score them."
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
        """Delete the folder with its chunks."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Release the lock on the folder."""
        os.close(self._lock)


def to_csv(table: pa.Table, header: bool) -> bytes:
    """Return a table as CSV, with quotation marks only if a text needs them.

    Raises:
        TableUnfit: a column holds lists, structures, or bytes that are not text.
    """
    for quoting in ("none", "needed"):
        sink = BytesIO()
        options = pcsv.WriteOptions(include_header=header, quoting_style=quoting, quoting_header=quoting)
        try:
            pcsv.write_csv(table, sink, options)
        except pa.ArrowInvalid as error:
            problem = error
        else:
            return sink.getvalue()
    if table.num_columns > 1:
        for name in table.column_names:
            to_csv(table.select([name]), header)
    columns = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    raise TableUnfit(
        f"column {columns}: cannot be written as CSV ({problem}). Choose a Parquet output (-P output=FILE.parquet) or "
        "other columns (-P keep=COLUMN,COLUMN)."
    )
