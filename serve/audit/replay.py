"""replay: compute each answer on record again, by the version that gave it, and compare."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prediction_log.engine import open_existing
from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from prediction_log.window import LogWindow, parse_window
from serve.audit.explain import REASONS
from serve.audit.proof import build_proof, format_proof, is_proven, write_proof
from serve.audit.records import NO_ANSWERS, Records, Version, format_skipped, iter_records, parse_records
from serve.audit.swap import compare_window
from serve.audit.swap_report import write_report
from serve.errors import ModelFailed, ModelRefused, ProcessLost
from serve.model.fetch_model import fetch_model
from serve.model.onnx_graph import MAX_DIFFERENCE, Graph
from serve.settings import ServeSettings, load_settings
from stepkit.errors import BadParameter
from stepkit.files import replace_file
from stepkit.paths import resolve_path
from stepkit.secret_urls import verify_no_secret
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser, parse_count
from stepkit.store.model_address import ADDRESSES

DEFAULT_WINDOW = "log:?rows=1000"
MOST_SHOWN = 20
"""Largest number of different answers that are printed."""
MOST_LISTED = 100_000
"""Largest number of different answers that are written to a file."""


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
    """Result of a replay: numbers of equal and of different answers by version, and of answers not replayed by reason.

    Attributes:
        differences: the first MOST_LISTED different answers.
    """

    equal: Counter[Version] = field(default_factory=Counter)
    different: Counter[Version] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: Replay) -> None:
        """Add the result of other answers."""
        self.equal.update(other.equal)
        self.different.update(other.different)
        self.skipped.update(other.skipped)
        self.differences.extend(other.differences[: MOST_LISTED - len(self.differences)])

    def format(self) -> str:
        """Return the counts per version and in total, the first differences, and the reasons of skipped answers."""
        versions = sorted({*self.equal, *self.different}, key=lambda pair: (pair[0], len(pair[1]), pair[1]))
        lines = [
            f"{name} version {number}: {self.equal[name, number]:,} equal, {self.different[name, number]:,} differ"
            for name, number in versions
        ]
        for difference in self.differences[:MOST_SHOWN]:
            lines.append(
                f"differs: request {difference.request_id}, row {difference.row}, version {difference.version}: "
                f"{difference.recorded:.6f} on record, {difference.replayed:.6f} now"
            )
        if (total := self.different.total()) > MOST_SHOWN:
            listed = "all" if total <= MOST_LISTED else f"the first {MOST_LISTED:,}"
            lines.append(f"and {total - MOST_SHOWN:,} more. Write {listed} to a file: -P output=FILE.csv")
        lines += format_skipped(self.skipped)
        return "\n".join([*lines, f"{self.equal.total():,} equal, {total:,} differ"])


def compare_records(model: Graph, records: Records, hidden: Collection[str]) -> Replay:
    """Return the replay of n answers by their version; `hidden` as in parse_records."""
    rows, _, places, skipped = parse_records(model, records.features, hidden)
    result = Replay(skipped=skipped)
    if not places:
        return result
    try:
        scores = model.score(rows)
    except ModelFailed as error:
        result.skipped[str(error)] += len(places)
        return result
    replayed, recorded = np.array(scores.probability), records.probability[places]
    is_near = np.abs(replayed - recorded) < MAX_DIFFERENCE
    differs = ~is_near | (np.array(scores.predicted) != records.predicted[places])
    for place in np.flatnonzero(differs).tolist():
        source, numbers = places[place], (float(recorded[place]), float(replayed[place]))
        result.differences.append(Difference(records.request_id[source], records.row[source], model.version, *numbers))
    version = (model.name, model.version)
    result.different[version] += len(result.differences)
    result.equal[version] += len(places) - len(result.differences)
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
            except ModelRefused as error:
                print(error, file=sys.stderr)
                self._models[version] = None
        return self._models[version]


def replay_window(url: str, window: LogWindow, hidden: Collection[str] = ()) -> Replay:
    """Return the replay of all answers of a window; `hidden` are the columns of serve.redact.

    Raises:
        BadParameter: the window has no answers.
        LogUnfit, LogUnavailable: the log cannot be read.
    """
    total, versions = Replay(), Versions()
    waiting: deque[Future[Replay]] = deque()
    cores = os.cpu_count() or 1
    with open_existing(url, reads=True) as engine, ThreadPoolExecutor(cores) as pool:
        for version, records in iter_records(engine, window):
            if (model := versions.load(version)) is None:
                name, number = version
                total.skipped[f"version {number} of {name} was deleted or does not load"] += len(records.row)
                continue
            waiting.append(pool.submit(compare_records, model, records, hidden))
            if len(waiting) > cores:
                total.add(waiting.popleft().result())
        while waiting:
            total.add(waiting.popleft().result())
    if not (total.equal or total.different or total.skipped):
        raise BadParameter(NO_ANSWERS)
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
    parser.add_argument("--model", default="", help=f"instead: answers of this version to the same rows: {ADDRESSES}")
    parser.add_argument("--request_id", default="", help="instead: proof of this answer (X-Request-Id)")
    parser.add_argument("--row", type=parse_count, default=0, help="row of request_id in its request (default: 0)")
    output_help = "CSV for all answers that differ (default: none), with model: swap.csv, with request_id: proof.json"
    parser.add_argument("--output", default="", help=output_help)
    parser.add_argument("--log_url", default="", help=f"prediction log (default: {URL_VARIABLE}, else {DEFAULT_URL})")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Replay answers on record; exit with status 1 if an answer differs."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.model and args.request_id:
        parser.error("give either model or request_id: -P model=models:/NAME/VERSION, or -P request_id=ID")
    is_equal = True
    with exit_on_error():
        verify_no_secret(args.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
        url, settings = args.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL, load_settings({})
        if args.request_id:
            is_equal = run_proof(url, args, settings.redact)
        elif args.model:
            run_comparison(url, args, settings.redact)
        else:
            is_equal = run_replay(url, args, settings)
    if not is_equal:
        sys.exit(1)


def run_proof(url: str, args: argparse.Namespace, hidden: Collection[str]) -> bool:
    """Write the proof of an answer; return True if its version gives it again."""
    path = find_output(args.output or "proof.json", ".json")
    proof = build_proof(url, args.request_id, args.row, REASONS, hidden)
    write_proof(proof, path)
    print(format_proof(proof, path), flush=True)
    return is_proven(proof)


def run_comparison(url: str, args: argparse.Namespace, hidden: Collection[str]) -> None:
    """Compare the answers of a window with those of another version, and write the result."""
    path, window = find_output(args.output or "swap.csv", ".csv"), parse_window(args.current)
    version, model = fetch_model(args.model)
    comparison = compare_window(url, window, model, hidden)
    write_report(comparison, f"{version.name} version {version.version}", model, path)


def run_replay(url: str, args: argparse.Namespace, settings: ServeSettings) -> bool:
    """Replay a window and print the result; return True if all answers are equal."""
    path = find_output(args.output, ".csv") if args.output else None
    window, started = parse_window(args.current), time.monotonic()
    result = replay_window(url, window, settings.redact)
    if path:
        write_differences(result.differences, path)
    if settings.sample_rate < 1:
        print(f"sampled: about {settings.sample_rate:.0%} of the requests are on record (serve.sample_rate)")
    print(f"{result.format()}, in {time.monotonic() - started:.1f} s", flush=True)
    return not result.different.total()


def find_output(output: str, suffix: str) -> Path:
    """Return the path of a file to write; raise BadParameter for a wrong suffix or a folder that does not exist."""
    path = Path(resolve_path(output))
    if path.suffix != suffix or path.is_dir():
        raise BadParameter(f"{path}: not a file that ends in {suffix}. Choose another: -P output=FILE{suffix}")
    if not path.parent.is_dir():
        raise BadParameter(f"{path}: its folder does not exist. Create it, or choose another: -P output=FILE{suffix}")
    return path


if __name__ == "__main__":
    main()
