"""describe: a table -> the draft of its description, data/<name>.yaml, for a person to read and correct."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from stepkit.paths import resolve_path
from stepkit.secret_urls import VARIABLE_PREFIX, parse_data_url, resolve_url, to_recorded_url
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.table import tables
from stepkit.table.columns import Columns, parse_columns
from stepkit.table.tables import to_plain_text

ROWS_FOR_ZEROS = 100_000
"""In so many rows of a CSV leading zeros are looked for, which a column read as numbers does not show."""

ATTEMPTS, STALL_SECONDS = 4, 30.0

HEAD = """\
# A draft, made from {rows:,} rows by `mlflow run ./download -e describe`. Read every line before you rely on it:
# - fill in description, licence, limits and each meaning: reports show "not stated" until then
# - a column of whole numbers that are codes without an order: write role: categorical
# - values, min, max, max_missing: allow later values too, not only those of this table; check_data rejects all others
{counts}# - a column that is not known when a prediction is asked for: remove it
# Then: {command}
"""
COUNTS = """\
# - the values of {names} are listed, as there are at most {most}; where they
#   count something, write min: 0 instead of values, or a number that did not come yet fails
"""


class _Writer(yaml.SafeDumper):
    """YAML whose texts are in quotes unless they are plain words: Hydra reads 1E5 as a number, PyYAML as a text."""


_Writer.add_representer(
    str,
    lambda writer, text: writer.represent_scalar(
        "tag:yaml.org,2002:str", text, None if text.isidentifier() and text.isascii() else '"'
    ),
)


def format_training_command(name: str) -> str:
    """Return the command that trains on a described table, under a name of its own.

    Else it would be compared with another table's champion, and might take its place.
    """
    return format_pipeline_command({"data": name, "register.model_name": name})


def format_yaml(settings: dict[str, Any], rows: int, left_out: dict[str, str]) -> str:
    """Return the settings as a person writes them; `left_out` has the reason for each column that is no input."""
    columns = settings["columns"]
    counts = [name for name, column in columns.items() if "values" in column and "type" not in column]
    listed = COUNTS.format(names=", ".join(map(_format_flow, counts)), most=MOST_CODES) if counts else ""
    head = HEAD.format(rows=rows, command=format_training_command(settings["name"]), counts=listed)
    own = "".join(f"{key}: {_format_flow(value)}\n" for key, value in settings.items() if key != "columns")
    lines = [f"  {_format_flow(name)}: {_format_flow(column)}" for name, column in columns.items()]
    for name, reason in left_out.items():
        described = ": {type: text, role: categorical}" if "different texts" in reason else ""
        lines.append(f"  # left out, {reason}: {_format_flow(name)}{described}")
    return "\n".join([head, own, "columns:", *lines]) + "\n"


def _format_flow(value: Any) -> str:
    dumped: str = yaml.dump(
        value, Dumper=_Writer, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return dumped.removesuffix("...\n").strip()


def fetch_table(file_url: str, called: str, target: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the columns that may be inputs, and the reason for each other one; messages call the address `called`."""
    with tempfile.TemporaryDirectory(prefix="describe-") as folder:
        try:
            file = unpack_table(fetch(file_url, Path(folder), ATTEMPTS, STALL_SECONDS, called))
            table = read_described_table(file, target)
        except TableUnreadable as error:
            raise TableUnreadable(f"{error} It came from {called}") from error
        fields = pq.read_schema(file) if file.suffix.lower() == ".parquet" else ()
        kinds = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
        unusable = [field.name for field in fields if field.name != target and any(is_(field.type) for is_ in kinds)]
        return table.drop(columns=unusable), dict.fromkeys(unusable, "its values are bytes or nested")


def read_described_table(file: Path, target: str) -> pd.DataFrame:
    """Read a table as the pipeline will once it is described: in a column of texts, `true` and `None` are words.

    Only a first reading shows which columns these are. The target is not a described column.
    """
    table = tables.read_table(file, header=[target])
    if file.suffix.lower() != ".csv":
        # preprocess reads a CSV of it
        file, typed = file.with_name("table.csv"), file
        tables.write_table(tables.read_table(typed, text=list(table.columns), header=[target]), file)
        table = tables.read_table(file)
    head = pd.read_csv(file, dtype=str, nrows=ROWS_FOR_ZEROS)
    zeros = {name for name in head.columns if has_leading_zeros(head[name])}
    texts = [str(name) for name in table.columns if name != target and (name in zeros or is_text(table[name]))]
    return tables.read_table(file, text=texts) if texts else table


def make_name(source: str) -> str:
    """Return the name of a data set for a file: its name in ASCII; an empty text if that leaves nothing."""
    letters = unicodedata.normalize("NFKD", Path(source).name.split(".")[0])
    name = re.sub(r"[^A-Za-z0-9_]", "_", "".join(letter for letter in letters if not unicodedata.combining(letter)))
    return name if is_data_set_name(name) or not name.strip("_") else f"table_{name}"


def is_data_set_name(name: str) -> bool:
    """Return whether `data=NAME` is a text for Hydra, which reads some words as numbers or nothing."""
    return bool(re.fullmatch(r"(?!(?i:inf|nan|null|true|false)$)[A-Za-z][A-Za-z0-9_]*", name))


def resolve_output(output: str, name: str) -> Path:
    """Return the file to write; raise BadParameter for a name that cannot be used, or a file that exists."""
    if not is_data_set_name(name):
        raise BadParameter(
            f"'{name}' cannot name a data set (expected: ASCII letters, digits and _, and not a word such as inf or "
            "null). Give one: -P name=mine"
        )
    place = Path(resolve_path(output or f"data/{name}.yaml"))
    if place.exists():
        raise BadParameter(
            f"{to_recorded_path(str(place))} is there already. Name another: -P name=... or -P output=FILE.yaml"
        )
    return place


def verify_draft(settings: dict[str, Any], text: str, left_out: dict[str, str]) -> Columns:
    """Return the columns in the written `text`, which must be the drafted `settings`."""
    if not settings["columns"]:
        raise TableUnfit(f"no column is left that a model could take. Left out: {', '.join(left_out) or 'none'}.")
    for line in text.splitlines():
        if ("${" in line or '"???"' in line) and not line.lstrip().startswith("#"):
            raise TableUnfit(
                f"data/*.yaml cannot hold the name or value in `{line.strip()[:200]}`: ${{ begins a reference there, "
                "and ??? is a missing value. Rename it in the table."
            )
    if yaml.safe_load(text) != settings:
        raise TableUnfit("a column name or a value cannot be written as YAML. Rename the columns in plain words.")
    return parse_columns(settings, f"data/{settings['name']}.yaml")


def write_description(file_url: str, choices: Choices, output: str) -> str:
    """Write the description; return in words what it says."""
    source = resolve_path(to_recorded_url(parse_data_url(file_url)))
    name = choices.name or make_name(source)
    place = resolve_output(output, name)
    table, left_out = fetch_table(resolve_path(resolve_url(file_url)), source, choices.target)
    kept = file_url if file_url.startswith(VARIABLE_PREFIX) else to_recorded_path(source)
    settings = draft_settings(table, replace(choices, name=name), kept)
    taken = {*settings["columns"], settings["source_target"], settings.get("id_column")}
    left_out |= {column: explain_exclusion(table[column]) for column in table.columns if column not in taken}
    text = format_yaml(settings, len(table), left_out)
    columns = verify_draft(settings, text, left_out)
    place.write_text(text, encoding="utf-8")
    target = table[columns.source_target]
    share, empty = (to_plain_text(target) == str(columns.positive)).mean(), target.isna().sum()
    called = "" if columns.target == columns.source_target else f", called {columns.target} from preprocess on"
    reasons = "; ".join(f"{column} ({reason}, see the end of the file)" for column, reason in left_out.items())
    return (
        f"wrote {to_recorded_path(str(place))}: {len(columns.names)} columns, {len(columns.categorical)} of them categorical; "
        f"target {columns.source_target}{called} "
        f"({columns.positive} is 1, {share:.1%} of {len(table):,} rows{f', {empty:,} without one' if empty else ''}); "
        f"id {columns.id_column or 'none'}; left out: {reasons or 'none'}. Read it, then type: {format_training_command(name)}"
    )


def make_parser() -> argparse.ArgumentParser:
    flags = Parser(prog="describe", description=__doc__)
    flags.add_argument("--file_url", required=True, help="address or path of the table")
    flags.add_argument("--target", required=True, help="its column with the two classes")
    positive = "the class that becomes 1; empty: the usual word, or the rarer one"
    flags.add_argument("--positive", default="", help=positive)
    flags.add_argument("--id_column", default="", help="the column that names the rows; empty: found out")
    flags.add_argument("--name", default="", help="name of the data set; empty: that of the file")
    flags.add_argument("--output", default="", help="the file to write; empty: data/<name>.yaml")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with exit_on_error():
        choices = Choices(args.name, args.target, args.positive, args.id_column)
        print(write_description(args.file_url, choices, args.output), flush=True)


if __name__ == "__main__":
    main()
