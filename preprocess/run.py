"""preprocess: raw_data.csv -> preprocessed_data.csv (target renamed, types fixed; id, empty rows, duplicates dropped).

This step does not validate: a value that does not fit its column stays unchanged, and check_data reports it. The
exception are dates (time_column), which it needs in one form, and lists of classes, which select the rows.
"""

from __future__ import annotations

import argparse

import mlflow
import pandas as pd

from preprocess.classes import format_other_classes, select_classes
from preprocess.duplicates import mark_empty_rows, mark_repeated_rows
from stepkit.errors import TableUnfit
from stepkit.step.flags import make_step_parser
from stepkit.step.run import step_run
from stepkit.store.lineage import OTHER_CLASSES
from stepkit.table.columns import Column, Columns
from stepkit.table.dates import format_dates, parse_dates
from stepkit.table.labels import to_classes
from stepkit.table.tables import to_plain_text

DECIDE = "Set data.duplicates: drop if they are copies of the same case, keep if not"


def verify_columns(raw: pd.DataFrame, columns: Columns, artifact: str) -> None:
    """Raise TableUnfit if the raw table lacks the target or an input column."""
    needed = list(dict.fromkeys([*columns.names, columns.source_target, *filter(None, [columns.time_column])]))
    missing = [name for name in needed if name not in raw.columns]
    if missing:
        raise TableUnfit(
            f"{artifact}: {len(missing)} of {len(needed)} columns missing: {', '.join(missing)} (found: "
            f"{', '.join(map(str, raw.columns))}). Correct the source, or its description in data/<name>.yaml."
        )


def convert_type(values: pd.Series, column: Column) -> pd.Series:
    """Return the column as text or as doubles, the types of the model's signature; unchanged if that loses values.

    In a CSV, whole numbers are written as doubles (24.0). MLflow reads 24 as an integer, and `mlflow models predict -t
    csv` rejects integers where the signature has doubles.
    """
    if column.type == "text":
        return to_plain_text(values) if pd.api.types.is_numeric_dtype(values) else values.astype("string")
    numbers = pd.to_numeric(values, errors="coerce")
    return values if numbers.isna().sum() > values.isna().sum() else numbers.astype(float)


def to_target(values: pd.Series, columns: Columns) -> pd.Series:
    """Return the target as 0 and 1; a value that is neither class stays unchanged."""
    mapped = to_classes(values, columns)
    return mapped.astype(object).where(mapped.notna(), values) if mapped.isna().any() else mapped


def clean_table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return a cleaned copy of `raw`: the described columns, the date of each row unless it is an input, the target.

    Raises:
        TableUnfit: a value of the time column is not a date.
    """
    keep = ~mark_empty_rows(raw, columns.id_column)
    if columns.duplicates == "drop":
        keep &= ~mark_repeated_rows(raw, columns.id_column)
    dates = {}
    if columns.time_column:
        times = parse_dates(raw[columns.time_column][keep])
        if columns.undated == "drop":
            keep[keep] = times.notna()
            times = times.dropna()
        if columns.time_column not in columns.columns:
            dates = {columns.time_column: format_dates(times).reset_index(drop=True)}

    def select_rows(name: str) -> pd.Series:
        rows: pd.Series = raw[name][keep].reset_index(drop=True)
        return rows

    typed = {name: convert_type(select_rows(name), column) for name, column in columns.columns.items()}
    target = to_target(select_rows(columns.source_target), columns)
    # Each column is a copy already, so copy=False saves the memory of a third copy of the table.
    return pd.DataFrame({**dates, **typed, columns.target: target}, copy=False)


def count_identical_rows(raw: pd.DataFrame, clean: pd.DataFrame, columns: Columns) -> tuple[int, str]:
    """Return the number of rows identical to an earlier row, and a note on them; (0, "") for `duplicates: keep`."""
    if columns.duplicates == "keep":
        return 0, ""
    count = int((mark_repeated_rows(raw, columns.id_column) & ~mark_empty_rows(raw, columns.id_column)).sum())
    if not count:
        return 0, ""
    rows = f"{count:,} identical row{'s' * (count > 1)}"
    if columns.duplicates is None:
        return count, f"; warning: kept {rows}. {DECIDE}"
    targets = (to_target(raw[columns.source_target], columns), clean[columns.target])
    before, after = (f"{target[target.notna()].eq(1).mean():.2%}" for target in targets)
    return count, f"; dropped {rows} (class 1: {before} before, {after} after)"


def count_undated_rows(raw: pd.DataFrame, columns: Columns) -> int:
    """Return the number of rows with other values but without a date; 0 without a time column."""
    if not columns.time_column:
        return 0
    return int((raw[columns.time_column].isna() & ~mark_empty_rows(raw, columns.id_column)).sum())


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    return make_step_parser(
        __doc__, "input_step", "input_run_id", "input_artifact", "artifact_name", "artifact_description"
    )


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        raw = run.read_table(args.input_step, args.input_artifact, args.input_run_id)
        verify_columns(raw, run.columns, args.input_artifact)
        selected, others = select_classes(raw, run.columns)
        clean = clean_table(selected, run.columns)
        run.publish_table(clean, args.artifact_name, about=args.artifact_description)
        identical, note = count_identical_rows(selected, clean, run.columns)
        other_rows, undated = format_other_classes(others), count_undated_rows(selected, run.columns)
        mlflow.log_metrics({"identical_rows": identical, "other_class_rows": len(others), "undated_rows": undated})
        mlflow.set_tag(OTHER_CLASSES, other_rows)
        note += f"; left out of other classes: {other_rows}" if other_rows else ""
        note += f"; rows without a date: {undated:,} ({run.columns.undated or 'kept'})" if undated else ""
        run.log_summary(f"kept {len(clean):,} of {len(raw):,} rows, {clean.shape[1]} of {raw.shape[1]} columns{note}")


if __name__ == "__main__":
    main()
