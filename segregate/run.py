"""segregate: preprocessed_data.csv -> data/data_train.csv and data/data_test.csv (stratified, or by time)."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from stepkit.step.flags import make_step_parser, parse_share
from stepkit.step.run import step_run
from stepkit.table.columns import Columns
from stepkit.table.dates import TIME, describe_parts
from stepkit.table.labels import verify_labels
from stepkit.table.split import split_rows


def format_split(table: pd.DataFrame, target: str) -> str:
    """Return the number of rows and the share of class 1, such as "8,992 rows (0.2249 positive)"."""
    shares = pd.to_numeric(table[target], errors="coerce").mean()
    return f"{len(table):,} rows ({shares:.4f} positive)"


def format_summary(train: pd.DataFrame, test: pd.DataFrame, columns: Columns, args: argparse.Namespace) -> str:
    """Return one line on both parts, with the dates and the actual share of the test part if the split is by time."""
    parts = {"train": train, "test": test}
    texts = {name: f"{name} {format_split(part, columns.target)}" for name, part in parts.items()}
    if args.split != TIME:
        return ", ".join(texts.values())
    for name, dates in describe_parts(parts, columns).items():
        undated = f", {dates['undated']:,} without a date" if dates["undated"] else ""
        texts[name] += f" from {dates['first']} to {dates['last']}{undated}"
    share = f"test share {len(test) / (len(train) + len(test)):.1%} (requested {args.test_size:.1%})"
    return "; ".join([*texts.values(), f"split by {columns.time_column}, {share}, not stratified"])


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    flags = make_step_parser(
        __doc__, "input_step", "input_run_id", "input_artifact", "split", "stratify", "random_seed"
    )
    flags.add_argument("--artifact_root", default="data", help="folder of both artifacts, and prefix of their names")
    flags.add_argument("--test_size", type=parse_share, required=True, help="share of the rows in the test split")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        table = run.read_table(args.input_step, args.input_artifact, args.input_run_id)
        verify_labels(table, run.columns.target)
        train, test = split_rows(table, args.test_size, run.columns, args)
        ending = Path(args.input_artifact).suffix
        for part, name in ((train, "train"), (test, "test")):
            run.publish_table(part, f"{args.artifact_root}/data_{name}{ending}")
        run.record_split({"training and validation": train, "test": test}, args.split)
        run.log_summary(format_summary(train, test, run.columns, args))


if __name__ == "__main__":
    main()
