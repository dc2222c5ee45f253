"""feedback: labels.csv -> the prediction log (true labels, by request id and row; giving them again does no harm)."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, Engine, and_, select
from sqlalchemy.dialects import postgresql, sqlite

from prediction_log.engine import ROOT, open_existing, translate_errors
from prediction_log.errors import FeedbackUnfit
from prediction_log.insert import split_chunks
from prediction_log.rows import is_request_id
from prediction_log.schema import feedback, predictions, prepare_tables
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
    """What became of the labels that were given: each is counted in one of these."""

    new: int = 0
    repeated: int = 0
    changed: int = 0
    unknown: list[Key] = field(default_factory=list)
    """Requests and rows that are not in the log."""

    def __str__(self) -> str:
        taken = self.new + self.repeated + self.changed
        parts = f"{self.new:,} new, {self.repeated:,} repeated, {self.changed:,} changed"
        return f"{taken:,} line{'s'[: taken != 1]} taken ({parts})"

    def add(self, others: LabelCounts) -> None:
        self.new += others.new
        self.repeated += others.repeated
        self.changed += others.changed
        self.unknown += others.unknown


def write_labels(log: str | Engine, labels: Iterable[Label], counts: LabelCounts | None = None) -> LabelCounts:
    """Write true labels into the log; a newer label replaces an older one of the same row.

    Args:
        log: the log's address, or an engine of prediction_log.engine.open_engine on a prepared log (a server's own).
        labels: any number of them; a thousand are committed at a time.
        counts: added to, and returned; so they are known where an error ends it.

    Raises:
        FeedbackUnfit: a label is neither 0 nor 1; those of the thousands before it stay taken.
        LogUnfit, LogUnavailable: there is no such log, or it cannot be written; what was committed stays.
    """
    if not isinstance(log, Engine):
        with open_existing(log) as engine:
            prepare_tables(engine)
            return write_labels(engine, labels, counts)
    counts = counts or LabelCounts()
    for some in split_chunks(labels, LABELS_PER_COMMIT):
        counts.add(_write_chunk(log, some))
    return counts


def _write_chunk(engine: Engine, labels: list[Label]) -> LabelCounts:
    for request_id, row, label in labels:
        if label not in (0, 1):
            raise FeedbackUnfit(f"the label of request '{request_id}', row {row}, is {label!r}; a label is 0 or 1.")
    ids = sorted({request_id for request_id, _, _ in labels if is_request_id(request_id)})
    with translate_errors(engine.url), engine.begin() as connection:
        before = _read_labels(connection, ids)
        after, counts = _compare_labels(labels, before)
        now = datetime.now(UTC)
        # in one order everywhere: two processes that label the same rows then wait for each other, and never deadlock
        changed = [
            {"request_id": key[0], "row": key[1], "label": after[key], "time": now}
            for key in sorted(after)
            if after[key] != before[key]
        ]
        if changed:
            connection.execute(_build_upsert(connection), changed)
    return counts


def _read_labels(connection: Connection, ids: list[str]) -> dict[Key, int | None]:
    """Return the label, if it has one, of each row that is on record."""
    columns = predictions.c
    same = and_(feedback.c.request_id == columns.request_id, feedback.c.row == columns.row)
    both = select(columns.request_id, columns.row, feedback.c.label).outerjoin_from(predictions, feedback, same)
    found = connection.execute(both.where(columns.request_id.in_(ids)))
    return {(request_id, row): label for request_id, row, label in found}


def _compare_labels(labels: list[Label], before: dict[Key, int | None]) -> tuple[dict[Key, int | None], LabelCounts]:
    """Return the labels as they will be, and what each of the given ones does to those before it."""
    now, counts = dict(before), LabelCounts()
    for request_id, row, label in labels:
        key = (request_id, row)
        if key not in now:
            counts.unknown.append(key)
            continue
        if now[key] is None:
            counts.new += 1
        elif now[key] == label:
            counts.repeated += 1
        else:
            counts.changed += 1
        now[key] = label
    return now, counts


def _build_upsert(connection: Connection) -> Any:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(feedback)
    newer = {"label": insert.excluded.label, "time": insert.excluded.time}
    return insert.on_conflict_do_update(index_elements=["request_id", "row"], set_=newer)


def parse_labels(file: TextIO, problems: list[str]) -> Iterator[Label]:
    """Yield the labels of a CSV with the columns request_id, label and (for requests of several rows) row.

    Lines that cannot be taken are left out, and described in `problems`.

    Raises:
        FeedbackUnfit: the file has not these columns.
    """
    reader = csv.DictReader(file, strict=True)
    missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise FeedbackUnfit(
            f"no column {' and no column '.join(missing)}; it needs request_id, label, and row unless all are row 0."
        )
    for line in reader:
        try:
            yield _parse_label(line)
        except ValueError as error:
            problems.append(f"line {reader.line_num}: {error}")


def _parse_label(line: dict[str, str | None]) -> Label:
    request_id, label, row = line["request_id"], (line["label"] or "").strip(), (line.get("row", "0") or "").strip()
    if not request_id:
        raise ValueError("no request_id")
    if label not in ("0", "1", "0.0", "1.0"):
        raise ValueError(f"label '{label}' is not 0 or 1")
    if not row.isdecimal():
        raise ValueError(f"row '{row}' is not a number from 0")
    return request_id, int(row), int(float(label))


def import_csv(url: str, path: Path) -> str:
    """Give the labels of a CSV; return in words what became of its lines.

    Raises:
        FeedbackUnfit: the file is no such table, or some lines were not taken; the others were.
        LogUnfit, LogUnavailable: as of give_feedback.
    """
    problems: list[str] = []
    counts = LabelCounts()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            write_labels(url, parse_labels(file, problems), counts)
    except (OSError, UnicodeDecodeError, csv.Error, FeedbackUnfit) as error:
        raise FeedbackUnfit(f"{path} cannot be taken: {error} {counts}.") from error
    problems += [f"request '{request_id}', row {row}, is not in the log" for request_id, row in counts.unknown]
    if problems:
        raise FeedbackUnfit(
            f"{path}: {counts}, {len(problems):,} not: {'; '.join(problems[:MAX_SHOWN_PROBLEMS])}"
            f"{' ...' if len(problems) > MAX_SHOWN_PROBLEMS else ''}. Mend these and give the file again: taken lines do no harm."
        )
    return f"{path}: {counts}"


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="feedback", description=__doc__)
    parser.add_argument(
        "--input", required=True, help="CSV: request_id, label (0 or 1), row (0 if there is no such column)"
    )
    parser.add_argument("--log_url", default="", help=f"the prediction log; empty: {URL_VARIABLE}, else {DEFAULT_URL}")
    args = parser.parse_args(argv)
    with exit_on_error():
        verify_no_secret(args.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
        # a relative path is relative to the repository, wherever the command was typed
        print(import_csv(args.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL, ROOT / args.input))


if __name__ == "__main__":
    main()
