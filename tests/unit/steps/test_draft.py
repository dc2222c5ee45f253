"""download.draft: a drafted description accepts its own table, in every format that describe reads."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from check_data.rules import RULES, find_broken_rows, mark_unknown_classes
from download.describe import main
from preprocess.run import clean_table
from stepkit.table.columns import Columns, read_columns
from stepkit.table.tables import read_table, write_table

ROWS = 60
DAY = dt.datetime(2024, 2, 28, 12, 30)

WORDS = ["yes", "no", "null", "~", "[x]", "{x}", "#", ":", "- a", "'q'", '"q"', "1", "é", " b "]

KINDS: dict[str, Callable[[int], Any]] = {
    "whole": lambda row: row * 7 % 41,
    "counts": lambda row: row % 4,
    "doubles": lambda row: row / 7,
    "negative": lambda row: -row / 3,
    "tiny": lambda row: row * 1e-9,
    "large codes": lambda row: 2**53 + row % 3,
    "beyond 64 bits": lambda row: str(2**70 + row % 3),
    "thousands": lambda row: float(row % 3 * 10**17),
    "gappy": lambda row: None if row % 5 == 0 else row % 7,
    "gappy doubles": lambda row: None if row % 5 == 0 else row / 7,
    "true": lambda row: row % 3 == 0,
    "true with gaps": lambda row: None if row % 4 == 0 else row % 3 == 0,
    "words": lambda row: WORDS[row % len(WORDS)],
    "words as numbers": lambda row: ["1E5", "2E3", "1_000", "0x10", "1:30", "010", "1.0", "A"][row % 8],
    "words as gaps": lambda row: ["NA", "None", "nan", "", "N/A", "wood"][row % 6],
    "words as dates": lambda row: ["2024-01-01", "2024-02-01", "n/a"][row % 3],
    "words as truth": lambda row: ["true", "FALSE", "True", "on", "off"][row % 5],
    "line ends": lambda row: ["a\nb", "a\rb", "a\r\nb", "c\td", "é\u2028", "\N{PILE OF POO}"][row % 6],
    "codes": lambda row: ["007", "010", "123"][row % 3],
    "padded": lambda row: f"{row:03}",
    "free text": lambda row: f"remark, no. {row}",
    "mixed": lambda row: [1, "a", 2.5, None, True, DAY][row % 6],
    "nothing": lambda row: None,
    "dates": lambda row: (DAY + dt.timedelta(days=row)).date(),
    "few dates": lambda row: (DAY + dt.timedelta(days=row % 3)).date(),
    "times": lambda row: DAY + dt.timedelta(minutes=row % 3),
    "hours": lambda row: (DAY + dt.timedelta(hours=row % 3)).time(),
    "durations": lambda row: dt.timedelta(hours=row % 3),
    "decimals": lambda row: Decimal(row % 3).quantize(Decimal("1.00")),
    "money": lambda row: Decimal(row * 33).quantize(Decimal("1.00")) / 7,
    "bytes": lambda row: [b"\x00\xff", b"b"][row % 2],
    "lists": lambda row: [row % 3, 2],
    "structs": lambda row: {"a": row % 3},
    "row numbers": lambda row: row + 1,
    "shuffled rows": lambda row: row * 7 % ROWS,
}
ONLY_PARQUET = {"bytes", "lists", "structs", "decimals", "money"}
ONLY_TEXT = {"mixed", "beyond 64 bits"}
"""Kinds that a spreadsheet or a CSV can contain in one column, and Parquet cannot."""

TARGETS: dict[str, Callable[[int], Any]] = {
    "numbers": lambda row: row % 3 // 2,
    "words": lambda row: ["yes", "no", "no"][row % 3],
    "truth": lambda row: row % 3 == 0,
    "true": lambda row: ["true", "false", "false"][row % 3],
    "1E5": lambda row: ["1E5", "2E3", "2E3"][row % 3],
    "decimals": lambda row: Decimal(row % 3 // 2).quantize(Decimal("1.00")),
    "dates": lambda row: (DAY + dt.timedelta(days=row % 3 // 2)).date(),
    "null and ~": lambda row: ["-", "~", "~"][row % 3],
    "codes": lambda row: ["01", "02", "02"][row % 3],
}
NAMES = ["yes", "no", "1", "1E5", "null", "~", "[x]", "{x}", "#", ":", "a: b", "'", '"', "a\nb", "a\rb", "a,b"]
NAMES += ["\\", " a "]
NAMES += ["2024-01-01", "1:30", "010", "<<", "*a", "&a", "!a", "%a", "@a", "- a", "? a", "|", ">", "é", "😀", "x" * 200]
NAMES += ["self", "index", "name", "columns", "target", "__x", "x.1", "a.b", "a=b", "On", "TRUE", "Unnamed: 3", "?"]


def write_file(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        write_table(table, path)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_excel(path, index=False)
    return path


def draft_description(file: Path, target: str) -> Columns:
    """Draft the description of a file, and verify that Hydra and the steps read the same."""
    output = file.with_suffix(".yaml")
    main(["--file_url", str(file), "--target", target, "--name", "drafted", "--output", str(output)])
    columns = read_columns(output)
    composed = OmegaConf.to_container(OmegaConf.load(output), resolve=True, throw_on_missing=True)
    assert isinstance(composed, dict)
    assert Columns(**{key: composed[key] for key in Columns.model_fields if key in composed}) == columns
    return columns


def verify_accepted(file: Path, columns: Columns, raw_name: str) -> None:
    """Pass a file through download, preprocess and check_data, as the pipeline does."""
    raw = file.with_name(raw_name)
    write_table(read_table(file, text=columns.text, header=[*columns.names, columns.source_target]), raw)
    clean = file.with_name("clean.csv")
    write_table(clean_table(read_table(raw, text=columns.text), columns), clean)
    sample = read_table(clean, text=columns.text)
    broken = {
        (name, rule): rows.head(3).tolist()
        for name in columns.names
        for rule in RULES
        if len(rows := find_broken_rows(sample, columns, name, rule))
    }
    assert broken == {}
    assert not mark_unknown_classes(sample[columns.target]).any()


ENDINGS = [(".csv", ".csv"), (".parquet", ".csv"), (".parquet", ".parquet"), (".xlsx", ".csv")]


@pytest.mark.parametrize(("ending", "raw_ending"), ENDINGS)
@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=3, max_size=8, unique=True),
    names=st.permutations(NAMES),
    target=st.sampled_from(sorted(TARGETS)),
)
def test_a_draft_accepts_its_own_table(
    ending: str, raw_ending: str, kinds: list[str], names: list[str], target: str
) -> None:
    refused = ONLY_TEXT if ending == ".parquet" else ONLY_PARQUET
    kinds = [kind for kind in kinds if kind not in refused]
    if ending == ".xlsx":
        names = [name for name in names if "\r" not in name]  # XML has no such line end
    values = {name: [KINDS[kind](row) for row in range(ROWS)] for name, kind in zip(names, kinds, strict=False)}
    values["amount"] = [row * 13 % 37 / 2 for row in range(ROWS)]
    values[names[-1]] = [TARGETS[target](row) for row in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        file = write_file(pd.DataFrame(values), Path(folder) / f"table{ending}")
        columns = draft_description(file, names[-1])
        verify_accepted(file, columns, f"raw_data{raw_ending}")
    left_out = {"nothing", "free text", "bytes", "lists", "structs", "row numbers", "shuffled rows", "padded", "dates"}
    assert not {name for name, kind in zip(names, kinds, strict=False) if kind in left_out} & set(columns.names)
    assert "amount" in columns.names
