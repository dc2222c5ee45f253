"""Data set descriptions: their meaning, and messages that name file, line and remedy of a mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ConfigError, parse_config
from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.table.columns import Column, Columns, parse_columns, read_columns
from stepkit.table.description import verify_yaml
from tests.support.small_data import CLIENTS, LOANS, compose_config

SETTINGS: dict[str, Any] = {"source_target": "y", "target": "default", "columns": {"AGE": {}}}


def test_columns_are_grouped_by_role_and_type() -> None:
    assert LOANS.names == ["amount", "purpose", "branch"]
    assert LOANS.numeric == ["amount"]
    assert LOANS.categorical == LOANS.text == ["purpose", "branch"]
    assert CLIENTS.categorical == ["SEX"]
    assert CLIENTS.text == []
    assert LOANS.classes == {"yes": 0, "no": 1}


def test_lists_of_classes_have_one_name_for_pages_and_plots() -> None:
    book = Columns(**{**SETTINGS, "positive": ["Charged Off", "Default", "Late"], "negative": ["Fully Paid"]})
    assert book.classes == {"Fully Paid": 0, "Charged Off": 1, "Default": 1, "Late": 1}
    assert book.class_names == ("Fully Paid", "Charged Off or 2 more")
    assert book.lists_classes
    assert Columns(**{**SETTINGS, "positive": [2, 3], "negative": 0}).class_names == ("0", "2 or 3")
    assert not LOANS.lists_classes


BOOK = Columns(
    **{**SETTINGS, "positive": ["Off", "Late"], "negative": [0, "1"], "time_column": "day", "undated": "drop"}
)


@pytest.mark.parametrize("columns", [CLIENTS, LOANS, BOOK], ids=["numbers", "texts", "lists"])
def test_a_description_written_beside_a_table_is_read_back_equal(tmp_path: Path, columns: Columns) -> None:
    path = tmp_path / "columns.yaml"
    path.write_text(columns.to_yaml(), encoding="utf-8")
    assert read_columns(path) == columns


def test_keys_of_a_data_set_that_do_not_describe_columns_are_left_alone() -> None:
    assert parse_columns({**SETTINGS, "file_url": "data.csv", "test_size": 0.3}, "x.yaml").names == ["AGE"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"AGE": {"rolle": "numeric"}}}, r"x\.yaml: columns\.AGE\.rolle: Extra inputs"),
        ({"columns": {"AGE": {"type": "int"}}}, r"x\.yaml: columns\.AGE\.type: .*'integer', 'float' or 'text'"),
        ({"columns": {"AGE": {"type": "text"}}}, r"columns\.AGE: a text column must have role: categorical.* remove"),
        ({"columns": {"AGE": {"monotonic": "up"}}}, r"columns\.AGE\.monotonic: .*'increasing' or 'decreasing'"),
        (
            {"columns": {"AGE": {"monotonic": "increasing", "role": "categorical"}}},
            r"x\.yaml: columns\.AGE: monotonic: codes have no order\. Use role: numeric",
        ),
        ({"columns": {"AGE": {"monotonc": "increasing"}}}, r"columns\.AGE\.monotonc: .* \(did you mean monotonic\?\)"),
        ({"columns": {"AGE": {"mn": 0}}}, r"columns\.AGE\.mn: .* \(did you mean min\?\)"),
        ({"columns": {"AGE": {"targt": 0}}}, r"columns\.AGE\.targt: [^(]*$"),
        ({"id_colum": "ID"}, r"x\.yaml: unknown key 'id_colum'; did you mean id_column\?"),
        ({"columns": {"AGE": {"max_missing": 1.5}}}, r"columns\.AGE\.max_missing"),
        ({"columns": {}}, r"x\.yaml: columns: "),
        ({"columns": {"y": {}}}, r"'y' is the target or the id"),
        ({"columns": {"default": {}}}, r"'default' is the target or the id"),
        ({"id_column": "AGE"}, r"'AGE' is the target or the id"),
        ({"leakage_checked": ["AGE", "rate"]}, r"x\.yaml: leakage_checked: no column rate\. Columns of the data set: "),
        ({"leakage_checked": "AGE"}, r"x\.yaml: leakage_checked: Input should be a valid list"),
        ({"target": 3}, r"x\.yaml: target: "),
        ({"source_target": None}, r"x\.yaml: source_target: "),
        ({"positive": []}, r"positive: the list is empty"),
        ({"negative": [0, 2, 0]}, r"negative: the list has the value '0' twice"),
        ({"positive": ["lost", "late"], "negative": "late"}, r"the value 'late' is in both positive and negative"),
        ({"positive": [1.5]}, r"x\.yaml: positive"),
        ({"time_column": "y"}, r"time_column: 'y' is also the target"),
        ({"undated": "train"}, r"undated: train needs a time_column"),
        ({"time_column": "day", "undated": "keep"}, r"undated: Input should be 'drop' or 'train'"),
    ],
)
def test_a_wrong_description_is_one_line_that_names_file_and_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message) as caught:
        parse_columns({**SETTINGS, **change}, "x.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_describes_no_columns_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("", encoding="utf-8")
    with pytest.raises(BadParameter, match=r"other\.yaml: .* describes no columns"):
        read_columns(tmp_path / "other.yaml")


def test_a_description_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Column(), "min", 3)  # noqa: B010 - mypy refuses the plain assignment, as it should


def test_description_that_builds_on_another_takes_over_its_columns() -> None:
    sample, uci = (read_columns(ROOT / "data" / f"{name}.yaml") for name in ("sample", "uci"))
    assert sample.columns == uci.columns
    assert sample.target == uci.target
    assert "SYNTHETIC" in sample.description


HEAD = "name: x\nsource_target: y\ntarget: y\ncolumns:\n"
FIRST = "  first: {}\n"


def get_message(tmp_path: Path, content: str | bytes) -> str:
    file = tmp_path / "x.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadParameter) as caught:
        verify_yaml(file, Columns)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{file}: ")


def verify_accepted(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content, encoding="utf-8")
    verify_yaml(tmp_path / "x.yaml", Columns)


TEXT, INTEGER = "type: text, role: categorical", "type: integer"
NUMBERS = "010 007 0x1F 0b1 1:30 12:30:45 1_000 1e5 1E5 1.5e5 2e+3 .inf .nan"


def make_column(values: str, kind: str = TEXT) -> str:
    return f"{HEAD}{FIRST}  country: {{{kind}, values: [{values}]}}\n"


@pytest.mark.parametrize(
    ("kind", "codes", "read"),
    [
        (TEXT, "NO yes On off true False", "true or false"),
        (TEXT, f"{NUMBERS} 1.10 +3 .5", "another number"),
        (INTEGER, f"{NUMBERS} 08 -.5", "another number"),
        (TEXT, "2020-01-01", "a date"),
    ],
)
def test_codes_that_yaml_reads_as_other_values_are_named_with_line_column_and_quotes(
    tmp_path: Path, kind: str, codes: str, read: str
) -> None:
    for code in codes.split():
        message = get_message(tmp_path, make_column(f"1, {code}", kind))
        assert message.startswith(f"line 6: column 'country': {code} is read as {read}. Write ")
        assert f'in quotes, "{code}", a number' in message or f'in quotes: "{code}".' in message


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        *(
            (values, TEXT)
            for values in ("", "DK, SE", "'NO', \"yes\"", "1, -2, 0", "1.5, 1.0", "'1e5', '007'", "08, -.5")
        ),
        *(("1.2.3, inf", TEXT), ("é, 日本", TEXT), ("0.50, 1.00, .5, +3", "type: float")),
    ],
)
def test_values_that_yaml_reads_as_written_are_accepted(tmp_path: Path, values: str, kind: str) -> None:
    verify_accepted(tmp_path, make_column(values, kind))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  no: {}", "line 5: column 'no': no is read as true or false"),
        ("  c: {labels: {1: a, on: b}}", "line 5: column 'c': on is read as true or false"),
        ("  1: {}", "line 5: columns.1"),
        ("  1e5: {}", "line 5: column '1e5': 1e5 is read as another number"),
        ("  c: {min: 010}", "line 5: column 'c': 010 is read as another number"),
        ("  c: {label: 5}", "line 5: columns.c.label: Input should be a valid string. Write it in quotes"),
        ("  a${b}: {}", "line 5: column 'a${b}'"),
        ("  c: {values: [${HOME}]}", "line 5: ${ starts a reference"),
        ("  c: {values: ['a${HOME}']}", "line 5: column 'c': a${HOME}: ${ starts a reference"),
        ("  c: {values: ['???']}", "line 5: column 'c': ???: "),
        ("  c: {type: int}", "line 5: columns.c.type: Input should be 'integer', 'float' or 'text'"),
        ("  c: {mn: 1}", "line 5: columns.c.mn: Extra inputs are not permitted (did you mean min?)"),
        ("  c: {values: 3}", "line 5: columns.c.values: "),
        ("\tc: {}", "line 5: a tab"),
        ("  c:\t{min: 0}", "line 5: a tab"),
        ("  c: {min: 0", "line 6: not YAML: "),
        ("  c: {}\n   d: {}", "line 6: "),
        ("  c: {}\n  c: {}", "line 6: the key 'c' is also in line 5"),
        ("target: z", "line 5: the key 'target' is also in line 3"),
        ("positive: yes", "line 5: positive: yes is read as true or false"),
        ("negative: off", "line 5: negative: off is read as true or false"),
        ("  c: &c {d: *c}", "line 1: not YAML: maximum recursion depth"),
        ("  ? [a]\n  : {}", "line 5: a key must be a text"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    assert get_message(tmp_path, f"{HEAD}{line}\n").startswith(words)


def test_references_are_legal_where_they_name_no_column_and_no_value(tmp_path: Path) -> None:
    verify_accepted(tmp_path, f"stratify: ${{data.target}}\n{HEAD}  c: {{role: categorical, slice_by: true}}\n")
    assert get_message(tmp_path, "source_target: late ${HOME}\n").startswith("line 1: source_target: late ${HOME}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: .*an empty file"),
        (b"- a\n", "line 1: .*a list"),
        (b"text", "line 1: .*one value"),
        (b"name: x\nlimits: \xe9\n", "line 2: the file is not UTF-8"),
        ("name: x\n".encode("utf-16"), "line 1: the file is not UTF-8"),
        (b"name: x\n\x00", "line 2: "),
        (b"a: 1\n---\nb: 2\n", "line 2: "),
    ],
    ids=["empty", "list", "text", "latin-1", "utf-16", "zero byte", "two documents"],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    assert re.match(words, get_message(tmp_path, content))


@pytest.mark.parametrize("name", ["sample", "uci"])
def test_the_described_data_sets_are_as_written(name: str) -> None:
    verify_yaml(ROOT / "data" / f"{name}.yaml", Columns)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  c: {type: text, role: categorical, values: [NO]}", "NO is read as true or false"),
        ("\tc: {}", "a tab"),
        ("test_size: big", "test_size: Input should be a valid number"),
        ("sha256: [5]", "sha256"),
    ],
)
def test_the_pipeline_reads_a_description_by_the_same_rules(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text(f"{HEAD}{FIRST}{line}\n")
    with pytest.raises(ConfigError) as caught:
        parse_config(compose_config("data=mine", f"hydra.searchpath=[file://{tmp_path}]"))
    assert str(caught.value).startswith(f"{tmp_path}/data/mine.yaml: line 6: ")
    assert words in str(caught.value)
