"""preprocess: raw_data.csv -> preprocessed_data.csv (target named, id, empty rows and copies removed).

It mends the form of the table and judges nothing: a value that does not fit its column stays as it came, and
check_data names it.
"""

from __future__ import annotations

import argparse

import mlflow
import pandas as pd

from preprocess.duplicates import mark_empty_rows, mark_repeated_rows
from stepkit.errors import TableUnfit
from stepkit.step.flags import make_step_parser
from stepkit.step.run import step_run
from stepkit.table.columns import Column, Columns
from stepkit.table.labels import to_classes
from stepkit.table.tables import to_plain_text

DECIDE = "Set data.duplicates to drop if they are copies of one case, or to keep"


def verify_columns(raw: pd.DataFrame, columns: Columns, artifact: str) -> None:
    """Raise TableUnfit if the raw table lacks the target or an input column."""
    missing = [name for name in (*columns.names, columns.source_target) if name not in raw.columns]
    if missing:
        raise TableUnfit(
            f"{artifact} lacks {len(missing)} of {len(columns.names) + 1} columns: {', '.join(missing)}. It has: "
            f"{', '.join(map(str, raw.columns))}. Mend the source, or describe its columns in data/<name>.yaml."
        )


def convert_type(values: pd.Series, column: Column) -> pd.Series:
    """Return the column as text or, as the model's signature has numbers, as doubles; unchanged if that loses values.

    Doubles stay doubles in CSV (24.0), which MLflow's own tools insist on: it reads 24 as an integer, and refuses
    integers for a signature of doubles (`mlflow models predict -t csv`).
    """
    if column.type == "text":
        return to_plain_text(values) if pd.api.types.is_numeric_dtype(values) else values.astype("string")
    numbers = pd.to_numeric(values, errors="coerce")
    return values if numbers.isna().sum() > values.isna().sum() else numbers.astype(float)


def to_target(values: pd.Series, columns: Columns) -> pd.Series:
    """Return the target as 0 and 1; a value that is neither class stays as it came."""
    mapped = to_classes(values, columns)
    return mapped.astype(object).where(mapped.notna(), values) if mapped.isna().any() else mapped


def clean_table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return a cleaned copy of `raw`: the described columns, then the target; the caller's table is untouched."""
    kept = ~mark_empty_rows(raw, columns.id_column)
    if columns.duplicates == "drop":
        kept &= ~mark_repeated_rows(raw, columns.id_column)

    def rows_of(name: str) -> pd.Series:
        rows: pd.Series = raw[name][kept].reset_index(drop=True)
        return rows

    typed = {name: convert_type(rows_of(name), column) for name, column in columns.columns.items()}
    target = to_target(rows_of(columns.source_target), columns)
    # a column at a time, each a fresh copy already: the table is never held a third time
    return pd.DataFrame({**typed, columns.target: target}, copy=False)


def count_identical_rows(raw: pd.DataFrame, clean: pd.DataFrame, columns: Columns) -> tuple[int, str]:
    """Return how many rows are identical to an earlier one, and in words what became of them; `keep` counts none."""
    if columns.duplicates == "keep":
        return 0, ""
    count = int((mark_repeated_rows(raw, columns.id_column) & ~mark_empty_rows(raw, columns.id_column)).sum())
    if not count:
        return 0, ""
    if columns.duplicates is None:
        return count, f"; warning: kept {count:,} identical rows. {DECIDE}"
    targets = (to_target(raw[columns.source_target], columns), clean[columns.target])
    before, after = (f"{target[target.notna()].eq(1).mean():.2%}" for target in targets)
    return count, f"; dropped {count:,} identical rows (class 1: {before} before, {after} after)"


def make_parser() -> argparse.ArgumentParser:
    return make_step_parser(
        __doc__, "input_step", "input_run_id", "input_artifact", "artifact_name", "artifact_description"
    )


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        raw = run.read_table(args.input_step, args.input_artifact, args.input_run_id)
        verify_columns(raw, run.columns, args.input_artifact)
        clean = clean_table(raw, run.columns)
        run.publish_table(clean, args.artifact_name, about=args.artifact_description)
        identical, words = count_identical_rows(raw, clean, run.columns)
        mlflow.log_metric("identical_rows", identical)
        kept = f"kept {len(clean):,} of {len(raw):,} rows, {clean.shape[1]} of {raw.shape[1]} columns"
        run.log_summary(kept + words)


if __name__ == "__main__":
    main()
