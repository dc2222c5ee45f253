"""labelled: the prediction log and its feedback -> a table to train on, in the raw table's own form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from drift.compare.sources import parse_row_count, parse_time, watched
from drift.errors import TooFewLabels
from drift.settings import get_log_url, load_monitoring
from prediction_log.read import read_log, select_features
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

HINT = "Labels come by POST /feedback or mlflow run ./serve -e feedback."


def build_labelled_table(log: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the rows of a log (n) whose true label is known, as the data set's source has them.

    Raises:
        TableUnfit: the log does not hold a column that the data set has, or never a value of it.
    """
    known = log[log["label"].notna()].reset_index(drop=True)
    features = select_features(known)
    for name in columns.names:
        if name not in features or (len(features) and features[name].isna().all()):
            raise TableUnfit(
                f"the log holds no value of column {name}: "
                "it was not served, or is redacted (serve.redact in config.yaml)."
            )
    table = pd.DataFrame({name: _restore_type(features[name], columns.columns[name].type) for name in columns.names})
    outcomes = {label: value for value, label in columns.classes.items()}
    table[columns.source_target] = known["label"].astype(int).map(outcomes)
    if columns.id_column:
        table.insert(0, columns.id_column, np.arange(1, len(table) + 1))
    return table


def _restore_type(values: pd.Series, kind: str) -> pd.Series:
    """Numbers of the log are doubles; whole ones become whole numbers again, where the data set has such."""
    if kind == "integer" and (values.dropna() % 1 == 0).all():
        return values.astype("Int64")
    return values


def verify_enough(table: pd.DataFrame, needed: int, target: str) -> None:
    """Raise TooFewLabels unless there are enough rows, of both classes."""
    if len(table) < needed:
        raise TooFewLabels(f"{len(table):,} rows with a known label, {needed:,} are needed (labelled_min_rows). {HINT}")
    if table[target].nunique() < 2:
        raise TooFewLabels(f"all {len(table):,} known labels are of one class, which teaches nothing. {HINT}")


def make_parser() -> argparse.ArgumentParser:
    flags = Parser(prog="labelled", description=__doc__)
    flags.add_argument(
        "--output", required=True, help=f"file to write, {' or '.join(WRITABLE)}; relative to the repository"
    )
    flags.add_argument("--from", default="", help="time of the first row (ISO 8601); empty: from the beginning")
    flags.add_argument("--to", default="", help="time behind the last row; empty: to the end")
    flags.add_argument("--rows", default="", help="only the newest so many rows of the log; empty: all")
    add_settings(flags, Monitoring, "model_name", "log_url", "labelled_min_rows")
    return flags


def main(argv: list[str] | None = None) -> None:
    with exit_on_error():
        print(write_labelled(vars(make_parser().parse_args(argv))), flush=True)


def write_labelled(given: dict[str, Any]) -> str:
    """Write the table and return what was written, in words."""
    settings = load_monitoring(given)
    output = Path(paths.resolve_path(given["output"]))
    if output.suffix not in WRITABLE or not output.parent.is_dir():
        raise BadParameter(
            f"-P output={given['output']}: name a file in a folder that is there, {' or '.join(WRITABLE)}."
        )
    tracking.connect()
    columns = watched(MlflowClient(), f"models:/{settings.model_name}@champion").columns
    start, end = (parse_time(given[name], f"-P {name}") if given[name] else None for name in ("from", "to"))
    last = parse_row_count(given["rows"], "-P rows") if given["rows"] else None
    log = read_log(get_log_url(settings), start, end, last, labels=True, model_name=settings.model_name)
    table = build_labelled_table(log, columns)
    verify_enough(table, settings.labelled_min_rows, columns.source_target)
    with replace_file(output) as part:
        write_table(table, part)
    share = float((table[columns.source_target] == columns.positive).mean())
    log_to_run({"rows": len(table), "log_rows": len(log), "positive_share": share})
    return f"wrote {output}: {len(table):,} of {len(log):,} rows have a label, {share:.4f} positive"


if __name__ == "__main__":
    main()
