"""describe: a table -> a draft of its description (data/<name>.yaml), for the user to read and correct."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from download.draft import MOST_CODES, Choices, draft_settings, explain_exclusion, has_leading_zeros, is_text
from download.fetch import fetch
from download.run import to_recorded_path
from download.unpack import unpack_table
from stepkit.commands import format_pipeline_command
from stepkit.errors import BadParameter, TableUnfit, TableUnreadable
from stepkit.model.single_column import compute_column_aucs, explain_suspicions, find_suspicions
from stepkit.paths import resolve_path
from stepkit.secret_urls import VARIABLE_PREFIX, parse_data_url, resolve_url, to_recorded_url
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.table import tables
from stepkit.table.columns import Columns, parse_columns
from stepkit.table.labels import to_classes
from stepkit.words import pluralize

ROWS_FOR_ZEROS = 100_000
"""Rows of a CSV that are read as text, to find codes with leading zeros: a column read as numbers loses them."""

ATTEMPTS, STALL_SECONDS = 4, 30.0

HEAD = """\
# Draft of a description, made from {rows:,} rows by `mlflow run ./download -e describe`. Before you use it:
# - Fill in description, licence, limits and each meaning. Reports show "not stated" where they are empty.
# - Add "role: categorical" to each column of whole numbers that are codes without an order.
# - Check values, min, max and max_missing. check_data rejects every value outside of them, so allow for future data.
{counts}# - Remove each column whose value is unknown at the time of a prediction.
# Then train: {command}
"""
COUNTS = """\
# - Replace values by "min: 0" in each column that counts something, or check_data rejects new counts. The draft
#   lists the values of every whole-number column with at most {most} of them: {names}.
"""


COMMENTS = {
    "time_column": "Date of each row, not an input: for data.split=time and the metrics per period.",
    "negative": "Remove the values of unfinished cases, such as Current: rows of unlisted values are left out.",
}
"""Comments on keys of the draft; the second one only on a list."""


class _Writer(yaml.SafeDumper):
    """YAML writer that quotes all but plain words: Hydra reads an unquoted 1E5 as a number, PyYAML as text."""


_Writer.add_representer(
    str,
    lambda writer, text: writer.represent_scalar(
        "tag:yaml.org,2002:str", text, None if text.isidentifier() and text.isascii() else '"'
    ),
)


def format_training_command(name: str) -> str:
    """Return the command that trains on a described table.

    The model gets its own name, so that it does not compete with the champion of another table.
    """
    return format_pipeline_command({"data": name, "register.model_name": name})


def format_yaml(settings: dict[str, Any], rows: int, left_out: dict[str, str]) -> str:
    """Return the settings as commented YAML; `left_out` maps each column that is not an input to the reason."""
    columns = settings["columns"]
    counts = [name for name, column in columns.items() if "values" in column and "type" not in column]
    listed = COUNTS.format(names=", ".join(map(_format_flow, counts)), most=MOST_CODES) if counts else ""
    head = HEAD.format(rows=rows, command=format_training_command(settings["name"]), counts=listed)
    keys = "".join(_format_key(key, value) for key, value in settings.items() if key != "columns")
    lines = [f"  {_format_flow(name)}: {_format_flow(column)}" for name, column in columns.items()]
    for name, reason in left_out.items():
        settings_to_add = ": {type: text, role: categorical}" if "different texts" in reason else ""
        lines.append(f"  # left out, {reason}: {_format_flow(name)}{settings_to_add}")
    return "\n".join([head, keys, "columns:", *lines]) + "\n"


def _format_key(key: str, value: Any) -> str:
    comment = COMMENTS.get(key, "") if key != "negative" or isinstance(value, list) else ""
    line = f"{key}: {_format_flow(value)}\n"
    return f"# {comment}\n{line}" if comment else line


def _format_flow(value: Any) -> str:
    dumped: str = yaml.dump(
        value, Dumper=_Writer, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return dumped.removesuffix("...\n").strip()


def fetch_table(file_url: str, shown_url: str, target: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the columns that may be inputs, and a reason for each other column; messages show `shown_url`."""
    with tempfile.TemporaryDirectory(prefix="describe-") as folder:
        try:
            file = unpack_table(fetch(file_url, Path(folder), ATTEMPTS, STALL_SECONDS, shown_url))
            table = read_described_table(file, target)
        except TableUnreadable as error:
            raise TableUnreadable(f"{str(error).rstrip('.')}. Source: {shown_url}") from error
        fields = pq.read_schema(file) if file.suffix.lower() == ".parquet" else ()
        unusable = [field.name for field in fields if field.name != target and _is_unusable(field.type)]
        return table.drop(columns=unusable), dict.fromkeys(unusable, "its values are bytes or nested")


def _is_unusable(kind: pa.DataType) -> bool:
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(is_bytes or pa.types.is_nested(kind))


def read_described_table(file: Path, target: str) -> pd.DataFrame:
    """Read a table the way the pipeline reads it with its description: `true` and `None` are words in a text column.

    The first reading finds the text columns, the second one reads them as text. The target is not a described column.
    """
    table = tables.read_table(file, header=[target])
    if file.suffix.lower() != ".csv":
        # preprocess reads the table from a CSV
        file, typed = file.with_name("table.csv"), file
        tables.write_table(tables.read_table(typed, text=list(table.columns), header=[target]), file)
        table = tables.read_table(file)
    head = pd.read_csv(file, dtype=str, nrows=ROWS_FOR_ZEROS)
    zeros = {name for name in head.columns if has_leading_zeros(head[name])}
    texts = [str(name) for name in table.columns if name != target and (name in zeros or is_text(table[name]))]
    return tables.read_table(file, text=texts) if texts else table


def make_name(source: str) -> str:
    """Return the name of a data set for a file: the file's name in ASCII letters; "" if none is left."""
    letters = unicodedata.normalize("NFKD", Path(source).name.split(".")[0])
    name = re.sub(r"[^A-Za-z0-9_]", "_", "".join(letter for letter in letters if not unicodedata.combining(letter)))
    return name if is_data_set_name(name) or not name.strip("_") else f"table_{name}"


def is_data_set_name(name: str) -> bool:
    """Return True if Hydra reads NAME in `data=NAME` as text: it reads some words as a number or as null."""
    return bool(re.fullmatch(r"(?!(?i:inf|nan|null|true|false)$)[A-Za-z][A-Za-z0-9_]*", name))


def resolve_output(output: str, name: str) -> Path:
    """Return the path of the file to write; raise BadParameter for an unusable name or an existing file."""
    if not is_data_set_name(name):
        raise BadParameter(
            f"--name: '{name}' cannot be the name of a data set (expected a letter, then letters, digits and _, all "
            "ASCII; not a word such as inf or null). Choose one, for example: -P name=loans"
        )
    path = Path(resolve_path(output or f"data/{name}.yaml"))
    if path.exists():
        raise BadParameter(
            f"{to_recorded_path(str(path))}: already exists. Delete it, or choose another file: -P name=NAME or "
            "-P output=FILE.yaml"
        )
    return path


def verify_draft(settings: dict[str, Any], text: str, left_out: dict[str, str]) -> Columns:
    """Return the columns in the YAML `text`; raise TableUnfit if they differ from `settings` or none is left."""
    if not settings["columns"]:
        target, identifier = settings["source_target"], settings.get("id_column", "none")
        raise TableUnfit(
            f"no column is left as an input of a model (target: {target}; id: {identifier}; left out: "
            f"{', '.join(left_out) or 'none'}). Add a column to the table, or name another target."
        )
    for line in text.splitlines():
        if ("${" in line or '"???"' in line) and not line.lstrip().startswith("#"):
            raise TableUnfit(
                f"data/*.yaml cannot contain the name or value in `{line.strip()[:200]}`: ${{ starts a reference in "
                "this file, and ??? marks a missing value. Rename it in the table."
            )
    if yaml.safe_load(text) != settings:
        raise TableUnfit("a column name or a value cannot be written as YAML. Rename the columns in plain words.")
    return parse_columns(settings, f"data/{settings['name']}.yaml")


def write_description(file_url: str, choices: Choices, output: str) -> str:
    """Write the description of a table; return a summary in words."""
    source = resolve_path(to_recorded_url(parse_data_url(file_url)))
    name = choices.name or make_name(source)
    path = resolve_output(output, name)
    table, left_out = fetch_table(resolve_path(resolve_url(file_url)), source, choices.target)
    recorded_url = file_url if file_url.startswith(VARIABLE_PREFIX) else to_recorded_path(source)
    settings = draft_settings(table, replace(choices, name=name), recorded_url)
    used = {*settings["columns"], *(settings.get(key) for key in ("source_target", "id_column", "time_column"))}
    left_out |= {column: explain_exclusion(table[column]) for column in table.columns if column not in used}
    text = format_yaml(settings, len(table), left_out)
    columns = verify_draft(settings, text, left_out)
    path.write_text(text, encoding="utf-8")
    target = table[columns.source_target]
    share, empty = (to_classes(target, columns) == 1).mean(), target.isna().sum()
    renamed = "" if columns.target == columns.source_target else f", named {columns.target} after preprocess"
    unlabeled = f"; {pluralize(empty, 'row')} without a label" if empty else ""
    leakage = explain_leakage(table, columns)
    reasons = "; ".join(f"{column} ({reason}, see the end of the file)" for column, reason in left_out.items())
    return (
        f"wrote {to_recorded_path(str(path))}: {pluralize(len(columns.names), 'column')}, "
        f"{len(columns.categorical)} of them categorical; target {columns.source_target}{renamed} "
        f"(class 1: {columns.class_names[1]}, {share:.1%} of {pluralize(len(table), 'row')}{unlabeled}); "
        f"id {columns.id_column or 'none'}; time column {columns.time_column or 'none'}; "
        f"left out: {reasons or 'none'}. "
        f"{leakage and f'Warning: {leakage}. '}Read the file, then train: {format_training_command(name)}"
    )


def explain_leakage(table: pd.DataFrame, columns: Columns) -> str:
    """Return a warning that names the columns which alone rank the rows suspiciously well, or ""."""
    labels = to_classes(table[columns.source_target], columns).to_numpy(dtype=float, na_value=np.nan)
    return explain_suspicions(find_suspicions(compute_column_aucs(table, columns, labels, columns.names), columns))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = Parser(prog="describe", description=__doc__)
    flags.add_argument("--file_url", required=True, help="URL or path of the table")
    flags.add_argument("--target", required=True, help="column with the classes")
    positive = (
        "value that becomes class 1, or several separated by commas; empty: the usual word for it (yes, bad, churned), "
        "else the rarer class"
    )
    flags.add_argument("--positive", default="", help=positive)
    flags.add_argument("--id_column", default="", help="column that identifies a row; empty: detected")
    flags.add_argument("--name", default="", help="name of the data set; empty: name of the file")
    flags.add_argument("--output", default="", help="file to write; empty: data/<name>.yaml")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    with exit_on_error():
        choices = Choices(args.name, args.target, args.positive, args.id_column)
        print(write_description(args.file_url, choices, args.output), flush=True)


if __name__ == "__main__":
    main()
