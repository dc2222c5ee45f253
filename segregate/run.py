"""segregate: preprocessed_data.csv -> data/data_train.csv and data/data_test.csv (stratified, seeded)."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from stepkit.step.flags import make_step_parser, parse_share
from stepkit.step.run import step_run
from stepkit.table.labels import verify_labels
from stepkit.table.split import split_table


def format_split(table: pd.DataFrame, target: str) -> str:
    """Return the number of rows and the share of class 1, such as "8,992 rows (0.2249 positive)"."""
    shares = pd.to_numeric(table[target], errors="coerce").mean()
    return f"{len(table):,} rows ({shares:.4f} positive)"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    flags = make_step_parser(__doc__, "input_step", "input_run_id", "input_artifact", "stratify", "random_seed")
    flags.add_argument("--artifact_root", default="data", help="folder of both artifacts, and prefix of their names")
    flags.add_argument("--test_size", type=parse_share, required=True, help="share of the rows in the test split")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        table = run.read_table(args.input_step, args.input_artifact, args.input_run_id)
        verify_labels(table, run.columns.target)
        train, test = split_table(table, args.test_size, args.stratify, args.random_seed)
        ending = Path(args.input_artifact).suffix
        for part, name in ((train, "train"), (test, "test")):
            run.publish_table(part, f"{args.artifact_root}/data_{name}{ending}")
        target = run.columns.target
        run.log_summary(f"train {format_split(train, target)}, test {format_split(test, target)}")


if __name__ == "__main__":
    main()
