"""About 230 request bodies, valid and invalid, for both MLflow's scoring server and the scorer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
CSV = "text/csv"
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Request to /invocations."""

    name: str
    body: bytes
    content_type: str | None = JSON


def to_split(rows: list[Row]) -> Any:
    return {"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}}


def to_records(rows: list[Row]) -> Any:
    return {"dataframe_records": rows}


def to_instances(rows: list[Row]) -> Any:
    return {"instances": rows}


def to_inputs(rows: list[Row]) -> Any:
    return {"inputs": {name: [row[name] for row in rows] for name in rows[0]}}


def to_csv(rows: list[Row]) -> str:
    lines = [rows[0], *(("" if value is None else str(value) for value in row.values()) for row in rows)]
    return "".join(f"{','.join(line)}\n" for line in lines)


FORMATS: dict[str, Callable[[list[Row]], Any]] = {
    "split": to_split, "records": to_records, "instances": to_instances, "inputs": to_inputs,
    "inputs_list": lambda rows: {"inputs": rows}, "csv": to_csv,
}  # fmt: skip


def encode_case(name: str, content: Any) -> Case:
    return Case(name, content.encode(), CSV) if isinstance(content, str) else Case(name, json.dumps(content).encode())


def drop_value(row: Row, name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}


def make_tables(row: Row) -> dict[str, list[Row]]:
    """Return tables that every format can represent: common shapes, and tables with one unusual value each."""
    five = [{**row, "AGE": 20.0 + 10 * step} for step in range(5)]
    values = {
        "null": None, "nan": float("nan"), "infinity": float("inf"), "minus_infinity": float("-inf"),
        "beyond_float32": 1e39, "text": "abc", "empty_text": "", "number_as_text": "41", "spaces": " 41 ",
        "underscore": "4_1", "true": True, "unknown_code": 99, "negative": -1, "fraction": 2.5, "zero": 0,
        "large_integer": 2**63, "larger_integer": 2**70, "list": [1], "object": {"a": 1}, "nan_as_text": "NaN",
        "date": "2026-01-01",
    }  # fmt: skip
    return {
        "one_row": [row],
        "whole_numbers": [{name: int(value) for name, value in row.items()}],
        "five_rows": five,
        "hundred_rows": five * 20,
        "other_order": [dict(sorted(row.items(), reverse=True))],
        "extra_number": [{**row, "more": 1.5}],
        "extra_text": [{"more": "x", **row}],
        "missing_column": [drop_value(row, "AGE")],
        "missing_two_columns": [drop_value(drop_value(row, "AGE"), "SEX")],
        "only_a_stranger": [{"more": 1.0}],
        **{f"age_{name}": [{**row, "AGE": value}] for name, value in values.items()},
        **{f"second_row_{name}": [row, {**row, "SEX": values[name]}] for name in ("null", "text", "true", "list")},
        "all_null": [dict.fromkeys(row)],
    }


def make_cases(row: Row) -> list[Case]:
    """Return every table in every format, and requests with faults that only some formats can have."""
    both = [
        encode_case(f"{name}-{table}", form(rows))
        for table, rows in make_tables(row).items()
        for name, form in FORMATS.items()
    ]
    return [*both, *_iter_shapes(row), *_iter_texts(row), *_iter_content_types(row)]


def _iter_shapes(row: Row) -> Iterator[Case]:
    names, values = list(row), list(row.values())
    shapes: dict[str, Any] = {
        "empty_split": {"dataframe_split": {"columns": names, "data": []}},
        "empty_split_without_columns": {"dataframe_split": {"columns": [], "data": []}},
        "split_without_columns": {"dataframe_split": {"data": [values]}},
        "split_without_data": {"dataframe_split": {"columns": names}},
        "split_with_a_stray_key": {"dataframe_split": {"columns": names, "data": [values], "more": 1}},
        "split_with_index": {"dataframe_split": {"columns": names, "data": [values], "index": [7]}},
        "split_with_text_index": {"dataframe_split": {"columns": names, "data": [values], "index": ["a"]}},
        "split_with_wrong_index": {"dataframe_split": {"columns": names, "data": [values], "index": [1, 2]}},
        "split_with_double_index": {"dataframe_split": {"columns": names, "data": [values] * 2, "index": [1, 1]}},
        "split_of_a_list": {"dataframe_split": [values]},
        "split_of_null": {"dataframe_split": None},
        "split_with_short_row": {"dataframe_split": {"columns": names, "data": [values, values[1:]]}},
        "split_with_long_row": {"dataframe_split": {"columns": names, "data": [[*values, 1.0]]}},
        "split_with_double_column": {"dataframe_split": {"columns": [*names, "AGE"], "data": [[*values, 1.0]]}},
        "split_with_double_stranger": {
            "dataframe_split": {"columns": [*names, "x", "x"], "data": [[*values, 1.0, 2.0]]}
        },
        "split_with_number_columns": {"dataframe_split": {"columns": list(range(len(names))), "data": [values]}},
        "split_of_flat_data": {"dataframe_split": {"columns": names, "data": values}},
        "split_of_records": {"dataframe_split": {"columns": names, "data": [row]}},
        "empty_records": {"dataframe_records": []},
        "records_of_an_object": {"dataframe_records": row},
        "records_of_a_text": {"dataframe_records": "abc"},
        "records_of_lists": {"dataframe_records": [values]},
        "records_with_different_keys": {"dataframe_records": [row, drop_value(row, "AGE")]},
        "records_with_more_keys": {"dataframe_records": [row, {**row, "more": 1}]},
        "empty_instances": {"instances": []},
        "instances_of_lists": {"instances": [values]},
        "instances_of_an_object": {"instances": {name: [value] for name, value in row.items()}},
        "instances_of_a_number": {"instances": 5},
        "instances_with_different_keys": {"instances": [row, drop_value(row, "AGE")]},
        "empty_inputs": {"inputs": {}},
        "empty_columns": {"inputs": {name: [] for name in names}},
        "inputs_of_scalars": {"inputs": row},
        "inputs_of_lists": {"inputs": [values]},
        "inputs_of_a_text": {"inputs": "abc"},
        "inputs_of_unequal_length": {"inputs": {**{name: [1.0, 2.0] for name in names}, "AGE": [1.0]}},
        "inputs_of_nested_lists": {"inputs": {name: [[value]] for name, value in row.items()}},
        "two_formats": {**to_records([row]), **to_instances([row])},
        "no_format": {"rows": [row]},
        "nothing": {},
        "format_and_a_stranger": {**to_split([row]), "more": 1},
        "instances_and_a_stranger": {**to_instances([row]), "more": 1},
        "with_params": {**to_split([row]), "params": {"a": 1}},
        "with_wrong_params": {**to_split([row]), "params": [1]},
        "with_signature_name": {**to_instances([row]), "signature_name": "x"},
        "list": [row],
        "number": 5,
        "null": None,
        "chat": {"messages": []},
    }
    yield from (encode_case(name, shape) for name, shape in shapes.items())


def _iter_texts(row: Row) -> Iterator[Case]:
    good = json.dumps(to_split([row]))
    names, line = to_csv([row]).splitlines()
    of_json = {
        "empty_body": b"",
        "broken_json": good[:-5].encode(),
        "json_with_a_tail": f"{good} x".encode(),
        "json_with_single_quotes": good.replace('"', "'").encode(),
        "json_in_latin_1": '{"dataframe_records": [{"é": 1}]}'.encode("latin-1"),
        "json_in_utf_16": good.encode("utf-16"),
        "json_with_a_byte_order_mark": good.encode("utf-8-sig"),
        "json_with_a_number_beyond_doubles": good.replace("24.0", "1e999").encode(),
        "json_with_a_double_key": f'{{"dataframe_records": 1, {json.dumps(to_records([row]))[1:]}'.encode(),
        "json_deeply_nested": (b'{"dataframe_records": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "json_nested_within_reason": (b'{"dataframe_records": ' + b"[" * 500 + b"]" * 500 + b"}"),
        "json_that_is_csv": f"{names}\n{line}\n".encode(),
    }
    of_csv = {
        "csv_without_rows": f"{names}\n".encode(),
        "csv_without_anything": b"",
        "csv_with_a_long_line": f"{names}\n{line}\n{line},1\n".encode(),
        "csv_with_a_short_line": f"{names}\n{line.rpartition(',')[0]}\n".encode(),
        "csv_in_latin_1": f"{names},é\n{line},1\n".encode("latin-1"),
        "csv_with_semicolons": f"{names}\n{line}\n".replace(",", ";").encode(),
        "csv_with_a_double_column": f"{names},AGE\n{line},1\n".encode(),
        "csv_with_quotes": (f'"{names.replace(",", chr(34) + "," + chr(34))}"' + f"\n{line}\n").encode(),
        "csv_that_is_json": good.encode(),
    }
    yield from (Case(name, body) for name, body in of_json.items())
    yield from (Case(name, body, CSV) for name, body in of_csv.items())
    yield Case("parquet_that_is_none", b"PAR1", "application/vnd.apache.parquet")


def _iter_content_types(row: Row) -> Iterator[Case]:
    body = json.dumps(to_split([row])).encode()
    kinds: dict[str, str | None] = {
        "utf_8": "application/json; charset=utf-8",
        "utf_8_in_capitals": "application/json;charset=UTF-8",
        "latin_1": "application/json; charset=latin-1",
        "parameter": "application/json; version=1",
        "capitals": "Application/JSON",
        "text": "text/plain",
        "form": "application/x-www-form-urlencoded",
        "empty": "",
        "none": None,
    }
    yield from (Case(f"content_type_{name}", body, kind) for name, kind in kinds.items())
