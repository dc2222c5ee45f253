"""describe: a table -> the draft of its description, data/<name>.yaml, to be read and mended by a person."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from download.fetch import fetch
from download.run import shown
from download.unpack import unpacked
from stepkit import tables
from stepkit.addresses import REFERENCE, data_address, opened, recorded
from stepkit.args import Parser
from stepkit.columns import Columns, columns_from
from stepkit.command import one_message
from stepkit.errors import BadParameter, TableUnfit
from stepkit.places import from_root
from stepkit.tables import plain

MOST_CODES = 20
"""A column of whole numbers with at most so many different ones gets its known values listed."""

ROWS_FOR_ZEROS = 100_000
"""In so many rows of a CSV leading zeros are looked for, which a column read as numbers does not show."""

MOST_CATEGORIES = 50
"""A column of texts with more different ones than this is no category but free text, a name or a date: left out."""

POSITIVE = ("1", "true", "yes", "y", "default", "bad", "churn", "fraud", "positive")
ATTEMPTS, STALL_SECONDS = 4, 30.0


@dataclass(frozen=True)
class Told:
    """What the person said of the table; an empty text means: find it out."""

    name: str
    target: str
    positive: str
    id_column: str


def draft(table: pd.DataFrame, told: Told, file_url: str) -> dict[str, Any]:
    """Return the settings of a data set for n rows, as they stand in data/<name>.yaml.

    Raises:
        TableUnfit: no such target or id, or the target has not two values.
    """
    for name in filter(None, (told.target, told.id_column)):
        if name not in table.columns:
            raise TableUnfit(f"there is no column '{name}'. The columns: {', '.join(map(str, table.columns))}.")
    negative, positive = classes_of(table[told.target], told.positive)
    identifier = told.id_column or identifier_of(table, told.target)
    inputs = [str(name) for name in table.columns if name not in (told.target, identifier)]
    described = {name: found for name in inputs if (found := describe(table[name]))}
    target = re.sub(r"\W+", "_", told.target)
    return {
        "name": told.name,
        "description": f"what the table is, where it comes from, its licence ({Path(file_url).name})",
        "file_url": file_url,
        **({"id_column": identifier} if identifier else {}),
        "source_target": told.target,
        "target": target,
        "negative": negative,
        "positive": positive,
        "stratify": target,
        "columns": described,
    }


def classes_of(target: pd.Series, positive: str) -> tuple[int | str, int | str]:
    """Return the target's values that become 0 and 1; where nobody says which is which, the rarer one becomes 1.

    Raises:
        TableUnfit: there are not two, or `positive` is none of them.
    """
    counts = plain(target).dropna().value_counts()
    if len(counts) != 2:
        some = ", ".join(map(str, counts.index[:8]))
        raise TableUnfit(f"column '{target.name}' has {len(counts)} values ({some}); a target has two. Name another.")
    if positive and positive not in counts.index:
        raise TableUnfit(f"column '{target.name}' holds no '{positive}', only {' and '.join(counts.index)}.")
    usual = [str(value) for value in counts.index if str(value).lower() in POSITIVE]
    one = positive or (usual[0] if len(usual) == 1 else str(counts.index[-1]))
    (other,) = (str(value) for value in counts.index if value != one)
    return as_written(other), as_written(one)


def as_written(value: str) -> int | str:
    return int(value) if re.fullmatch(r"-?\d+", value) and str(int(value)) == value else value


def identifier_of(table: pd.DataFrame, target: str) -> str:
    """Return the column whose values name the rows: all different, and no measured number; or the empty text."""
    for name in (str(column) for column in table.columns if column != target):
        named_so = re.search(r"(^|[_\W])(id|key|no|number|nr)$", name, re.IGNORECASE) or name.endswith("Id")
        if (named_so or is_text(table[name])) and table[name].is_unique and len(table) > 1:
            return name
    return ""


def is_text(values: pd.Series) -> bool:
    """Whether a column holds words, or codes such as 007; true and false are words, also with a gap among them."""
    if pd.api.types.infer_dtype(values, skipna=True) == "boolean" or has_leading_zeros(values):
        return True
    return bool(pd.to_numeric(values, errors="coerce").isna().sum() > values.isna().sum())


def has_leading_zeros(values: pd.Series) -> bool:
    """Whether a column of texts holds codes such as 007, which as numbers would be other ones.

    They are of one width, unlike numbers of which one was padded; and no more than a category may have, for as a number
    a column with many different codes is of more use than left out.
    """
    if pd.api.types.is_numeric_dtype(values):
        return False
    codes = values.dropna().astype(str)
    if not codes.str.fullmatch(r"0\d+").any() or codes.nunique() > MOST_CATEGORIES:
        return False
    return bool(codes.str.fullmatch(r"\d+").all() and codes.str.len().nunique() == 1)


def describe(values: pd.Series) -> dict[str, Any]:
    """Return what data/*.yaml says of a column; nothing for one that a model cannot take."""
    missing = values.isna().mean()
    gaps = {"max_missing": min(1.0, math.ceil(missing * 150) / 100)} if missing else {}
    if values.notna().sum() == 0:
        return {}
    if is_text(values):
        return described_texts(values, gaps)
    return {**described_numbers(pd.to_numeric(values).dropna()), **gaps, "meaning": ""}


def described_texts(values: pd.Series, gaps: dict[str, Any]) -> dict[str, Any]:
    known = sorted(plain(values).dropna().unique())
    if len(known) > MOST_CATEGORIES:
        return {}
    return {"type": "text", "role": "categorical", "values": known, **gaps, "meaning": ""}


def described_numbers(numbers: pd.Series) -> dict[str, Any]:
    whole = bool((numbers % 1 == 0).all())
    found: dict[str, Any] = {} if whole else {"type": "float"}
    if whole and numbers.nunique() <= MOST_CODES:
        return {**found, "values": sorted(int(value) for value in numbers.unique())}
    return {**found, "min": 0} if numbers.min() >= 0 else found


HEAD = """\
# A draft, made from {rows:,} rows by `mlflow run ./download -e describe`. Read every line before you rely on it:
# - description and meaning: say in words what they are; both are shown wherever the data are
# - a column of whole numbers that are codes without an order: write role: categorical
# - values, min, max, max_missing: what may come, not only what came; check_data holds every later table to it
# - a column that is not known when a prediction is asked for: remove it
# Then: {command}
"""


def command_for(name: str) -> str:
    """The command that trains on a described table, under a name of its own: else it would be compared with another
    table's champion, and might take its place."""
    return f'mlflow run . --env-manager local -P hydra_options="data={name} register.model_name={name}"'


def as_yaml(settings: dict[str, Any], rows: int, left_out: list[str]) -> str:
    """Write the settings as a person would: one line for each column."""
    columns = settings["columns"]
    own = yaml.safe_dump({key: value for key, value in settings.items() if key != "columns"}, sort_keys=False)
    lines = [f"  {_flow(name)}: {_flow(column)}" for name, column in columns.items()]
    out = [f"# left out (no values, or too many different texts): {', '.join(left_out)}"] if left_out else []
    text = "\n".join([HEAD.format(rows=rows, command=command_for(settings["name"])), own, *out, "columns:", *lines])
    return text + "\n"


def _flow(value: Any) -> str:
    dumped: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return dumped.removesuffix("...\n").strip()


def read(file_url: str, called: str, target: str) -> pd.DataFrame:
    """Fetch and read the table at an address or path; `called` is how messages name it."""
    with tempfile.TemporaryDirectory(prefix="describe-") as folder:
        return read_as_described(unpacked(fetch(file_url, Path(folder), ATTEMPTS, STALL_SECONDS, called)), target)


def read_as_described(file: Path, target: str) -> pd.DataFrame:
    """Read a table as the pipeline will once it is described: in a column of texts, `true` and `None` are words.

    Which columns these are shows only when it was read without knowing. The target is no described column.
    """
    table = tables.read_table(file)
    zeros = with_leading_zeros(file)
    texts = [str(name) for name in table.columns if name != target and (name in zeros or is_text(table[name]))]
    return tables.read_table(file, text=texts) if texts else table


def with_leading_zeros(file: Path) -> set[str]:
    """Return the columns of a CSV whose codes would lose their zeros; other formats say themselves what is text."""
    if file.suffix.lower() != ".csv":
        return set()
    head = pd.read_csv(file, dtype=str, nrows=ROWS_FOR_ZEROS)
    return {str(name) for name in head.columns if has_leading_zeros(head[name])}


def place_of(output: str, name: str) -> Path:
    """Return the file to write.

    Raises:
        BadParameter: a name that is none, or a file that is there already.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise BadParameter(f"'{name}' cannot name a data set: letters, digits and _ only. Give one: -P name=mine")
    place = Path(from_root(output or f"data/{name}.yaml"))
    if place.exists():
        raise BadParameter(f"{shown(str(place))} is there already. Name another: -P name=... or -P output=FILE.yaml")
    return place


def checked(settings: dict[str, Any], left_out: list[str]) -> Columns:
    if not settings["columns"]:
        raise TableUnfit(f"no column is left that a model could take. Left out: {', '.join(left_out) or 'none'}.")
    return columns_from(settings, f"data/{settings['name']}.yaml")


def run(file_url: str, told: Told, output: str) -> str:
    """Write the description; return in words what it says."""
    source = from_root(recorded(data_address(file_url)))
    name = told.name or re.sub(r"\W", "_", Path(source).name.split(".")[0])
    place = place_of(output, name)
    table = read(from_root(opened(file_url)), source, told.target)
    kept = file_url if file_url.startswith(REFERENCE) else shown(source)
    settings = draft(table, Told(name, told.target, told.positive, told.id_column), kept)
    taken = {*settings["columns"], settings["source_target"], settings.get("id_column")}
    left_out = [str(column) for column in table.columns if column not in taken]
    columns = checked(settings, left_out)
    place.write_text(as_yaml(settings, len(table), left_out), encoding="utf-8")
    share = (plain(table[columns.source_target]) == str(columns.positive)).mean()
    return (
        f"wrote {shown(str(place))}: {len(columns.names)} columns, {len(columns.categorical)} of them categorical; "
        f"target {columns.source_target}{_called(columns)} "
        f"({columns.positive} is 1, {share:.1%} of {len(table):,} rows); "
        f"id {columns.id_column or 'none'}; left out: {', '.join(left_out) or 'none'}. Read it, then type: "
        f"{command_for(name)}"
    )


def _called(columns: Columns) -> str:
    return "" if columns.target == columns.source_target else f", called {columns.target} from preprocess on"


def parser() -> argparse.ArgumentParser:
    flags = Parser(prog="describe", description=__doc__)
    flags.add_argument("--file_url", required=True, help="address or path of the table")
    flags.add_argument("--target", required=True, help="its column with the two classes")
    flags.add_argument(
        "--positive", default="", help="the class that becomes 1; empty: the usual word, or the rarer one"
    )
    flags.add_argument("--id_column", default="", help="the column that names the rows; empty: found out")
    flags.add_argument("--name", default="", help="name of the data set; empty: that of the file")
    flags.add_argument("--output", default="", help="the file to write; empty: data/<name>.yaml")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with one_message():
        print(run(args.file_url, Told(args.name, args.target, args.positive, args.id_column), args.output), flush=True)


if __name__ == "__main__":
    main()
