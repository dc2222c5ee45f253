"""replay: compute each answer on record again, by the version that gave it, and compare."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Engine, Text, cast, select

from prediction_log.engine import open_existing, translate_errors
from prediction_log.rows import REDACTED, pop_redacted
from prediction_log.schema import predictions, verify_schema
from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from prediction_log.window import LogWindow, parse_window
from serve.errors import ProcessLost
from serve.model.fetch_model import fetch_model
from serve.model.onnx_graph import MAX_DIFFERENCE, Graph, Rows
from serve.settings import load_settings
from stepkit.errors import BadParameter
from stepkit.files import replace_file
from stepkit.paths import resolve_path
from stepkit.secret_urls import verify_no_secret
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.words import pluralize

ROWS_AT_ONCE = 10_000
DEFAULT_WINDOW = "log:?rows=1000"
MOST_SHOWN = 20
"""Largest number of different answers that are printed."""

Version = tuple[str, str]
"""Name and version of a registered model."""


@dataclass(frozen=True)
class Records:
    """n answers of one version; `features` are JSON objects."""

    request_id: list[str]
    row: list[int]
    features: list[str]
    probability: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class Difference:
    """Answer on record that its version does not give again."""

    request_id: str
    row: int
    version: str
    recorded: float
    replayed: float


@dataclass
class Replay:
    """Result of a replay: numbers of equal answers, by version, differences, and answers that were not replayed."""

    equal: Counter[Version] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def format(self) -> str:
        """Return the counts per version and in total, the first differences, and the reasons of skipped answers."""
        differing = Counter(difference.version for difference in self.differences)
        versions = sorted({version for _, version in self.equal} | {*differing}, key=lambda text: (len(text), text))
        equal = Counter[str]()
        for (_, version), count in self.equal.items():
            equal[version] += count
        lines = [f"version {version}: {equal[version]:,} equal, {differing[version]:,} differ" for version in versions]
        for difference in self.differences[:MOST_SHOWN]:
            lines.append(
                f"differs: request {difference.request_id}, row {difference.row}, version {difference.version}: "
                f"{difference.recorded:.6f} on record, {difference.replayed:.6f} now"
            )
        if len(self.differences) > MOST_SHOWN:
            lines.append(f"and {len(self.differences) - MOST_SHOWN:,} more. Write all to a file: -P output=FILE.csv")
        lines += [f"not replayed: {pluralize(count, 'answer')}, {reason}" for reason, count in self.skipped.items()]
        return "\n".join([*lines, f"{self.equal.total():,} equal, {len(self.differences):,} differ"])


def iter_records(engine: Engine, window: LogWindow) -> Iterator[tuple[Version, Records]]:
    """Yield the answers of a window in parts of one version each, in the order of their time.

    Raises:
        LogUnfit, LogUnavailable: the log cannot be read.
    """
    columns = predictions.c
    selected = (columns.request_id, columns.row, columns.model_name, columns.model_version)
    query = select(*selected, cast(columns.features, Text), columns.probability, columns.predicted).where(
        columns.shadow.is_(False)
    )
    if window.start:
        query = query.where(columns.time >= window.start)
    if window.end:
        query = query.where(columns.time < window.end)
    if window.version and window.version != "any":
        query = query.where(columns.model_version == window.version)
    # Newest first only if their number is limited. The order does not affect the result.
    newest = (columns.time.desc(), columns.request_id, columns.row)
    query = query.order_by(*newest).limit(window.rows) if window.rows else query.order_by(columns.time)
    verify_schema(engine)
    with translate_errors(engine.url), engine.connect() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
        for part in result.partitions():
            yield from _split_by_version(part)


def _split_by_version(part: Any) -> Iterator[tuple[Version, Records]]:
    ids, rows, names, versions, features, probability, predicted = zip(*part, strict=True)
    pairs = list(zip(names, versions, strict=True))
    for version in dict.fromkeys(pairs):
        places = [place for place, pair in enumerate(pairs) if pair == version]
        ids_of, rows_of, features_of = ([column[place] for place in places] for column in (ids, rows, features))
        recorded = np.array(probability)[places], np.array(predicted)[places]
        yield version, Records(ids_of, rows_of, features_of, *recorded)


def parse_rows(model: Graph, features: list[str]) -> tuple[Rows, list[dict[str, Any]]]:
    """Return n recorded rows as the model takes them, and as they were recorded.

    Raises:
        ValueError: a number is recorded as text.
    """
    records: list[dict[str, Any]] = orjson.loads(f"[{','.join(features)}]")
    try:
        values = list(map(itemgetter(*model.names), records))
    except KeyError:
        values = [tuple(map(record.get, model.names)) for record in records]
    if len(model.names) == 1:
        values = [value if isinstance(value, tuple) else (value,) for value in values]
    if not model.text:
        numbers = np.array(values, dtype=np.float64)  # null is NaN, and "Infinity" infinity
        return Rows(model.names, numbers.T, {}, len(records)), records
    columns = dict(zip(model.names, zip(*values, strict=True), strict=True))
    texts = {name: np.array([text or "" for text in columns[name]], dtype=object) for name in model.text}
    numbers = np.array([columns[name] for name in model.numeric], dtype=np.float64)
    return Rows(model.numeric, numbers.reshape(len(model.numeric), len(records)), texts, len(records)), records


def compare_records(model: Graph, records: Records, redacted: Collection[str]) -> Replay:
    """Return the replay of n answers by their version."""
    version, result = (model.name, model.version), Replay()
    rows, raw = parse_rows(model, records.features)
    scores = model.score(rows)
    replayed = np.array(scores.probability)
    is_equal = np.abs(replayed - records.probability) < MAX_DIFFERENCE
    is_equal &= np.array(scores.predicted) == records.predicted
    hidden = {name for name in model.names if name in redacted}
    for place, record in enumerate(raw):
        # Rows of earlier releases do not name their redacted columns.
        is_named = REDACTED in record
        if not (is_named or hidden):
            continue
        lost = pop_redacted(record) if is_named else {name for name in hidden if record.get(name) is None}
        if columns := [name for name in model.names if name in lost]:
            result.skipped[f"redacted (serve.redact: {', '.join(columns)})"] += 1
            is_equal[place] = True
    for place in np.flatnonzero(~is_equal).tolist():
        recorded, now = float(records.probability[place]), float(replayed[place])
        result.differences.append(Difference(records.request_id[place], records.row[place], version[1], recorded, now))
    result.equal[version] += int(is_equal.sum()) - result.skipped.total()
    return result


class Versions:
    """Versions that gave answers, each loaded once; None for one that was deleted or cannot be loaded."""

    def __init__(self) -> None:
        self._models: dict[Version, Graph | None] = {}

    def load(self, version: Version) -> Graph | None:
        """Return the graph of a version; the child process that loads it prints the reason of a failure."""
        if version not in self._models:
            try:
                _, self._models[version] = fetch_model(f"models:/{version[0]}/{version[1]}")
            except (SystemExit, ProcessLost, BadParameter):
                self._models[version] = None
        return self._models[version]


def replay_window(url: str, window: LogWindow, redacted: Collection[str] = ()) -> Replay:
    """Return the replay of all answers of a window.

    Raises:
        BadParameter: the window has no answers.
        LogUnfit, LogUnavailable: the log cannot be read.
        ModelFailed: a version returns values other than probabilities.
    """
    total, versions = Replay(), Versions()
    waiting: deque[Future[Replay]] = deque()
    cores = os.cpu_count() or 1

    def collect(most: int) -> None:
        while len(waiting) > most:
            result = waiting.popleft().result()
            total.equal.update(result.equal)
            total.differences.extend(result.differences)
            total.skipped.update(result.skipped)

    with open_existing(url, reads=True) as engine, ThreadPoolExecutor(cores) as pool:
        for version, records in iter_records(engine, window):
            model = versions.load(version)
            if model is None:
                total.skipped[f"because version {version[1]} of {version[0]} was deleted or does not load"] += len(
                    records.row
                )
                continue
            waiting.append(pool.submit(compare_records, model, records, redacted))
            collect(cores)
        collect(0)
    if not total.equal.total() and not total.differences and not total.skipped:
        raise BadParameter(
            "-P current: no answers on record in this window. Choose another, for example log:?rows=1000."
        )
    return total


def write_differences(differences: list[Difference], path: Path) -> None:
    """Write all differences as CSV."""
    with replace_file(path) as target, target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["request_id", "row", "model_version", "recorded", "replayed"])
        for difference in differences:
            writer.writerow(vars(difference).values())


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `mlflow run ./serve -e replay`."""
    parser = Parser(prog="replay", description=__doc__)
    window_help = f"window of the log: log:?from=TIME&to=TIME or log:?rows=N (default: {DEFAULT_WINDOW})"
    parser.add_argument("--current", default=DEFAULT_WINDOW, help=window_help)
    parser.add_argument("--output", default="", help="CSV for all answers that differ (default: none)")
    parser.add_argument("--log_url", default="", help=f"prediction log (default: {URL_VARIABLE}, else {DEFAULT_URL})")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Replay a window; exit with status 1 if an answer differs."""
    args = make_parser().parse_args(argv)
    with exit_on_error():
        verify_no_secret(args.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
        window, started = parse_window(args.current), time.monotonic()
        url = args.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        settings = load_settings({})
        result = replay_window(url, window, settings.redact)
        if args.output:
            write_differences(result.differences, Path(resolve_path(args.output)))
        if settings.sample_rate < 1:
            print(f"sampled: about {settings.sample_rate:.0%} of the requests are on record (serve.sample_rate)")
        print(f"{result.format()}, in {time.monotonic() - started:.1f} s", flush=True)
    if result.differences:
        sys.exit(1)


if __name__ == "__main__":
    main()
