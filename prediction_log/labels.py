"""feedback: import true labels from a CSV into the prediction log, by request id and row; repeating it is safe."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from prediction_log.engine import ROOT, open_existing, translate_errors
from prediction_log.errors import FeedbackUnfit
from prediction_log.insert import split_chunks
from prediction_log.rows import is_request_id
from prediction_log.schema import HAS_LABEL, feedback, predictions, prepare_tables
from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from stepkit.secret_urls import verify_no_secret
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser

Key = tuple[str, int]
Label = tuple[str, int, int]
"""Request id, row in the request, true label (0 or 1)."""

LABELS_PER_COMMIT = 1_000
MAX_SHOWN_PROBLEMS = 3
REQUIRED_COLUMNS = ("request_id", "label")


@dataclass(slots=True)
class LabelCounts:
    """Counts of imported labels by result."""

    new: int = 0
    repeated: int = 0
    changed: int = 0
    unknown: list[Key] = field(default_factory=list)
    """Request id and row of each label without a prediction in the log."""

    def __str__(self) -> str:
        imported = self.new + self.repeated + self.changed
        parts = f" ({self.new:,} new, {self.repeated:,} repeated, {self.changed:,} changed)" if imported else ""
        return f"{imported:,} label{'s'[: imported != 1]} imported{parts}"

    def add(self, other: LabelCounts) -> None:
        """Add the counts of another import."""
        self.new += other.new
        self.repeated += other.repeated
        self.changed += other.changed
        self.unknown += other.unknown


def write_labels(log: str | Engine, labels: Iterable[Label], counts: LabelCounts | None = None) -> LabelCounts:
    """Write true labels to the log; a new label replaces an earlier one of the same row.

    Args:
        log: URL of the log, or an engine from prediction_log.engine.open_engine whose tables are prepared.
        labels: any number; each commit has LABELS_PER_COMMIT of them.
        counts: object to add to, for callers that need the counts even after an error.

    Returns:
        The counts, `counts` if given.

    Raises:
        FeedbackUnfit: a label is neither 0 nor 1; earlier commits stay.
        LogUnfit, LogUnavailable: no log at this URL, or it cannot be written; earlier commits stay.
    """
    if not isinstance(log, Engine):
        with open_existing(log) as engine:
            prepare_tables(engine)
            return write_labels(engine, labels, counts)
    counts = counts or LabelCounts()
    for chunk in split_chunks(labels, LABELS_PER_COMMIT):
        counts.add(_write_chunk(log, chunk))
    return counts


def _write_chunk(engine: Engine, labels: list[Label]) -> LabelCounts:
    for request_id, row, label in labels:
        if label not in (0, 1):
            raise FeedbackUnfit(f"request '{request_id}', row {row}: wrong label (found {label!r}, expected 0 or 1).")
    ids = sorted({request_id for request_id, _, _ in labels if is_request_id(request_id)})
    with translate_errors(engine.url), engine.begin() as connection:
        old_labels = _read_labels(connection, ids)
        new_labels, counts = _compare_labels(labels, old_labels)
        now = datetime.now(UTC)
        # Sorted, so that two processes that label the same rows cannot deadlock.
        changed = [
            {"request_id": key[0], "row": key[1], "label": new_labels[key], "time": now}
            for key in sorted(new_labels)
            if new_labels[key] != old_labels[key]
        ]
        if changed:
            connection.execute(_build_upsert(connection), changed)
    return counts


def _read_labels(connection: Connection, ids: list[str]) -> dict[Key, int | None]:
    """Return the label, or None, of each row of these requests in the log."""
    columns = predictions.c
    both = select(columns.request_id, columns.row, feedback.c.label).outerjoin_from(predictions, feedback, HAS_LABEL)
    rows = connection.execute(both.where(columns.request_id.in_(ids)))
    return {(request_id, row): label for request_id, row, label in rows}


def _compare_labels(
    labels: list[Label], old_labels: dict[Key, int | None]
) -> tuple[dict[Key, int | None], LabelCounts]:
    """Return the labels after the import, and the counts by result."""
    new_labels, counts = dict(old_labels), LabelCounts()
    for request_id, row, label in labels:
        key = (request_id, row)
        if key not in new_labels:
            counts.unknown.append(key)
            continue
        if new_labels[key] is None:
            counts.new += 1
        elif new_labels[key] == label:
            counts.repeated += 1
        else:
            counts.changed += 1
        new_labels[key] = label
    return new_labels, counts


def _build_upsert(connection: Connection) -> Any:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(feedback)
    newer = {"label": insert.excluded.label, "time": insert.excluded.time}
    return insert.on_conflict_do_update(index_elements=["request_id", "row"], set_=newer)


def parse_labels(file: TextIO, problems: list[str]) -> Iterator[Label]:
    """Yield the labels of a CSV with the columns request_id, label and (for requests with several rows) row.

    Args:
        file: an open CSV.
        problems: list to add a text to for each rejected line.

    Raises:
        FeedbackUnfit: a column is missing.
    """
    reader = csv.DictReader(file, strict=True)
    missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise FeedbackUnfit(
            f"no column {' and no column '.join(missing)} (found {', '.join(reader.fieldnames or []) or 'no header'}; "
            "expected request_id, label and, for requests with several rows, row)."
        )
    for line in reader:
        try:
            yield _parse_label(line)
        except ValueError as error:
            problems.append(f"line {reader.line_num}: {error}")


def _parse_label(line: dict[str, str | None]) -> Label:
    request_id, label, row = line["request_id"], (line["label"] or "").strip(), (line.get("row", "0") or "").strip()
    if not request_id:
        raise ValueError("request_id is empty")
    if label not in ("0", "1", "0.0", "1.0"):
        raise ValueError(f"wrong label (found '{label}', expected 0 or 1)")
    if not row.isdecimal():
        raise ValueError(f"wrong row (found '{row}', expected a whole number from 0)")
    return request_id, int(row), int(float(label))


def import_csv(url: str, path: Path) -> str:
    """Import the labels of a CSV into the log at `url`; return the counts as a message.

    Raises:
        FeedbackUnfit: the file cannot be read, or some lines were rejected; the other lines are imported.
        LogUnfit, LogUnavailable: as write_labels.
    """
    problems: list[str] = []
    counts = LabelCounts()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            write_labels(url, parse_labels(file, problems), counts)
    except (OSError, UnicodeDecodeError, csv.Error, FeedbackUnfit) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error).removesuffix(".")
        raise FeedbackUnfit(f"{path}: {reason}; {counts}. Correct the file and import it again.") from error
    problems += [
        f"request '{request_id}', row {row}, has no prediction in the log" for request_id, row in counts.unknown
    ]
    if problems:
        raise FeedbackUnfit(
            f"{path}: {counts}, {len(problems):,} rejected: {'; '.join(problems[:MAX_SHOWN_PROBLEMS])}"
            f"{' ...' if len(problems) > MAX_SHOWN_PROBLEMS else ''}. Correct these and import the file again."
        )
    return f"{path}: {counts}"


def main(argv: list[str] | None = None) -> None:
    """Import the labels of a CSV."""
    parser = Parser(prog="feedback", description=__doc__)
    parser.add_argument(
        "--input", required=True, help="CSV with the columns request_id, label (0 or 1) and optionally row (default: 0)"
    )
    parser.add_argument("--log_url", default="", help=f"prediction log (default: {URL_VARIABLE}, else {DEFAULT_URL})")
    args = parser.parse_args(argv)
    with exit_on_error():
        verify_no_secret(args.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
        # A relative path is relative to the repository, not to the working directory.
        print(import_csv(args.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL, ROOT / args.input))


if __name__ == "__main__":
    main()
