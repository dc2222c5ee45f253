"""labelled: write the labelled rows of the prediction log to a table to train on, in the form of the raw table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from drift.compare.sources import get_watched_version
from drift.errors import TooFewLabels
from drift.settings import get_log_url, load_monitoring
from prediction_log.read import read_log, select_features
from prediction_log.window import parse_row_count, parse_time
from stepkit import paths
from stepkit.errors import BadParameter, TableUnfit
from stepkit.files import replace_file
from stepkit.settings.drift import Monitoring
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser, add_settings
from stepkit.step.project_run import log_to_run
from stepkit.store import tracking
from stepkit.table.columns import Columns
from stepkit.table.fileformats import WRITABLE
from stepkit.table.tables import write_table

HINT = "Send labels by POST /feedback or mlflow run ./serve -e feedback."


def build_labelled_table(log: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the labelled rows of a log of n rows, with the columns and classes of the data set's source.

    A class with several values gets the first of them. The date of a row is the time of its prediction (UTC), unless
    the date is an input of the model.

    Raises:
        TableUnfit: a column of the data set has no value in the log.
    """
    labelled = log[log["label"].notna()].reset_index(drop=True)
    features = select_features(labelled)
    for name in columns.names:
        if name not in features or (len(features) and features[name].isna().all()):
            raise TableUnfit(
                f"column {name}: no value in the prediction log. "
                "The column was not served, or serve.redact in config.yaml removes it."
            )
    table = pd.DataFrame({name: _restore_type(features[name], columns.columns[name].type) for name in columns.names})
    class_values = {label: value for value, label in reversed(columns.classes.items())}
    table[columns.source_target] = labelled["label"].astype(int).map(class_values)
    if columns.time_column and columns.time_column not in columns.columns:
        table[columns.time_column] = labelled["time"].dt.strftime("%Y-%m-%dT%H:%M:%S")
    if columns.id_column:
        table.insert(0, columns.id_column, np.arange(1, len(table) + 1))
    return table


def _restore_type(values: pd.Series, kind: str) -> pd.Series:
    """Convert doubles of the log back to whole numbers in an integer column."""
    if kind == "integer" and (values.dropna() % 1 == 0).all():
        return values.astype("Int64")
    return values


def verify_enough(table: pd.DataFrame, needed: int, target: str) -> None:
    """Raise TooFewLabels unless the table has enough rows and both classes."""
    if len(table) < needed:
        raise TooFewLabels(f"labelled_min_rows: found {len(table):,} labelled rows, expected {needed:,}. {HINT}")
    if table[target].nunique() < 2:
        raise TooFewLabels(f"all {len(table):,} labels belong to one class, training needs both. {HINT}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = Parser(prog="labelled", description=__doc__)
    flags.add_argument(
        "--output", required=True, help=f"file to write ({' or '.join(WRITABLE)}), relative to the repository"
    )
    flags.add_argument("--from", default="", help="time of the first row (ISO 8601, included); empty: start of the log")
    flags.add_argument("--to", default="", help="end time (ISO 8601, excluded); empty: end of the log")
    flags.add_argument("--rows", default="", help="read only this many of the newest rows of the log; empty: all")
    add_settings(flags, Monitoring, "model_name", "log_url", "labelled_min_rows")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    with exit_on_error():
        print(write_labelled(vars(make_parser().parse_args(argv))), flush=True)


def write_labelled(flags: dict[str, Any]) -> str:
    """Write the table; return a line that names the file, its rows and the positive share."""
    settings = load_monitoring(flags)
    output = Path(paths.resolve_path(flags["output"]))
    if output.suffix not in WRITABLE or not output.parent.is_dir():
        raise BadParameter(
            f"-P output={flags['output']}: expected a {' or '.join(WRITABLE)} file in an existing folder."
        )
    tracking.connect()
    columns = get_watched_version(MlflowClient(), f"models:/{settings.model_name}@champion").columns
    start, end = (parse_time(flags[name], f"-P {name}") if flags[name] else None for name in ("from", "to"))
    newest = parse_row_count(flags["rows"], "-P rows") if flags["rows"] else None
    log = read_log(get_log_url(settings), start, end, newest, labels=True, model_name=settings.model_name)
    table = build_labelled_table(log, columns)
    verify_enough(table, settings.labelled_min_rows, columns.source_target)
    with replace_file(output) as part:
        write_table(table, part)
    share = float(table[columns.source_target].map(columns.classes).mean())
    log_to_run({"rows": len(table), "log_rows": len(log), "positive_share": share})
    return f"wrote {output}: {len(table):,} of {len(log):,} rows have a label, {share:.4f} positive"


if __name__ == "__main__":
    main()
