"""download: a URL or path (csv, csv.gz, zip, parquet, xls, xlsx) -> raw_data.csv, with its sha256 and source."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import mlflow
import pandas as pd

from download.fetch import fetch
from download.unpack import unpack_table
from stepkit.errors import BadParameter, TableUnreadable, WrongDigest
from stepkit.paths import ROOT, resolve_path
from stepkit.secret_urls import parse_data_url, resolve_url, to_recorded_url
from stepkit.step.flags import make_positive_parser, make_step_parser
from stepkit.step.run import StepRun, step_run
from stepkit.store.lineage import DATA_SET, parse_artifact_name, parse_run_id
from stepkit.table import tables
from stepkit.table.columns import Columns, read_columns
from stepkit.table.description import verify_yaml
from stepkit.table.fileformats import WRITABLE
from stepkit.words import pluralize

log = logging.getLogger("step")


def read_description(run: StepRun, dataset: str) -> Columns:
    """Return the columns of a data set: a name in data/, a path or runs:/ID/NAME; raise BadParameter if missing."""
    if dataset.startswith("runs:/"):
        path = run.fetch(parse_run_id(dataset), parse_artifact_name(dataset), record=False)
    else:
        path = ROOT / (dataset if dataset.endswith((".yaml", ".yml")) else f"data/{dataset}.yaml")
    if not path.is_file():
        names = sorted(file.stem for file in (ROOT / "data").glob("*.yaml"))
        raise BadParameter(f"no data set '{dataset}' (found: {', '.join(names)}). Name one of them, or a YAML file.")
    if not dataset.startswith("runs:/"):
        verify_yaml(path, Columns)
    return read_columns(path)


def verify_digest(files: list[Path], accepted: list[str], url: str) -> None:
    """Raise WrongDigest if none of the files, packed or unpacked, has an `accepted` sha256. No digest accepts any."""
    digests = [tables.compute_sha256(file) for file in files]
    if accepted and not set(digests) & set(accepted):
        raise WrongDigest(
            f"{url}: wrong sha256 (found {digests[0]}, expected {' or '.join(accepted)}). If you want the new file, "
            "set data.sha256 to its digest, or to null to accept any file."
        )


def to_recorded_path(url: str) -> str:
    """Return a path within the repository relative to its root, valid on any machine; any other URL is unchanged."""
    return str(Path(url).relative_to(ROOT)) if Path(url).is_relative_to(ROOT) else url


def read_raw_table(url: str, packed: Path, columns: Columns) -> tuple[Path, pd.DataFrame]:
    """Return the table's file in a download, and the table; raise TableUnreadable with the URL."""
    try:
        file = unpack_table(packed)
        return file, tables.read_table(file, text=columns.text, header=[*columns.names, columns.source_target])
    except TableUnreadable as error:
        raise TableUnreadable(f"{str(error).rstrip('.')}. Source: {url}") from error


def publish_raw_table(run: StepRun, url: str, file: Path, raw: pd.DataFrame, name: str, about: str) -> None:
    """Publish the file unchanged if it has the requested format, else convert the table."""
    has_format = file.suffix in WRITABLE and name.endswith(file.suffix)
    run.publish_table(raw, name, file if has_format else None, about)
    run.log_dataset(raw, name, tables.compute_sha256(file), url, context="download")
    run.log_summary(
        f"{pluralize(len(raw), 'row')}, {pluralize(len(raw.columns), 'column')}, {file.stat().st_size / 1e6:.1f} MB"
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    flags = make_step_parser(__doc__, "artifact_name", "artifact_description")
    url_help = "URL or path of the table, or env:NAME to read it from an environment variable"
    flags.add_argument("--file_url", required=True, type=parse_data_url, help=url_help)
    flags.add_argument("--dataset", default="uci", help="data set: a name in data/, a YAML file, or runs:/ID/NAME")
    flags.add_argument("--sha256", default="", help="accepted sha256 digests of the file, separated by commas")
    flags.add_argument("--attempts", type=make_positive_parser(int), default=4, help="number of tries of a transfer")
    flags.add_argument(
        "--stall_seconds",
        type=make_positive_parser(float),
        default=30.0,
        help="seconds without data after which a try fails",
    )
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        run.set_columns(read_description(run, args.dataset))
        url = resolve_path(to_recorded_url(args.file_url))
        log.info("fetching %s", url)
        secret_url = resolve_path(resolve_url(args.file_url))
        packed = fetch(secret_url, run.folder / "download", args.attempts, args.stall_seconds, name=url)
        # Read before comparing digests: "a web page" and "cut off" are clearer errors than "wrong sha256".
        file, raw = read_raw_table(url, packed, run.columns)
        verify_digest([packed, file], [digest for digest in args.sha256.split(",") if digest], url)
        mlflow.log_metric("bytes", packed.stat().st_size)
        mlflow.set_tags({"source_url": to_recorded_path(url), "sha256": tables.compute_sha256(packed)})
        mlflow.set_tags({DATA_SET: run.columns.name, "data_description": run.columns.description})
        publish_raw_table(run, url, file, raw, args.artifact_name, args.artifact_description)


if __name__ == "__main__":
    main()
