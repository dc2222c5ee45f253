"""stepkit.table.columns: the description of a data set, and one line for what is wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.table.columns import Column, Columns, columns_from, read_columns
from tests.support.small_data import CLIENTS, LOANS

SETTINGS: dict[str, Any] = {"source_target": "y", "target": "default", "columns": {"AGE": {}}}


def test_columns_are_told_apart_by_role_and_type() -> None:
    assert LOANS.names == ["amount", "purpose", "branch"]
    assert LOANS.numeric == ["amount"]
    assert LOANS.categorical == LOANS.text == ["purpose", "branch"]
    assert CLIENTS.categorical == ["SEX"]
    assert CLIENTS.text == []


def test_classes_say_which_source_value_becomes_0_and_1() -> None:
    assert CLIENTS.classes == {0: 0, 1: 1}
    assert LOANS.classes == {"yes": 0, "no": 1}


@pytest.mark.parametrize("columns", [CLIENTS, LOANS], ids=["numbers", "texts"])
def test_a_description_written_beside_a_table_is_read_back_equal(tmp_path: Path, columns: Columns) -> None:
    path = tmp_path / "columns.yaml"
    path.write_text(columns.to_yaml(), encoding="utf-8")
    assert read_columns(path) == columns


def test_words_that_yaml_takes_for_booleans_survive_being_written(tmp_path: Path) -> None:
    assert yaml.safe_load(LOANS.to_yaml())["negative"] == "yes"


def test_keys_of_a_data_set_that_do_not_describe_columns_are_left_alone() -> None:
    assert columns_from({**SETTINGS, "file_url": "data.csv", "test_size": 0.3}, "x.yaml").names == ["AGE"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"AGE": {"rolle": "numeric"}}}, r"x\.yaml: columns\.AGE\.rolle: Extra inputs"),
        ({"columns": {"AGE": {"type": "int"}}}, r"x\.yaml: columns\.AGE\.type: .*'integer', 'float' or 'text'"),
        ({"columns": {"AGE": {"type": "text"}}}, r"columns\.AGE: a text column must have role: categorical; .* remove"),
        ({"columns": {"AGE": {"mn": 0}}}, r"columns\.AGE\.mn: .* \(did you mean min\?\)"),
        ({"columns": {"AGE": {"targt": 0}}}, r"columns\.AGE\.targt: [^(]*$"),
        ({"id_colum": "ID"}, r"x\.yaml: there is no key 'id_colum'; did you mean id_column\?"),
        ({"columns": {"AGE": {"max_missing": 1.5}}}, r"columns\.AGE\.max_missing"),
        ({"columns": {}}, r"x\.yaml: columns: "),
        ({"columns": {"y": {}}}, r"'y' is the target or the id"),
        ({"columns": {"default": {}}}, r"'default' is the target or the id"),
        ({"id_column": "AGE"}, r"'AGE' is the target or the id"),
        ({"target": 3}, r"x\.yaml: target: "),
    ],
)
def test_a_wrong_description_is_one_line_that_names_file_and_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message) as caught:
        columns_from({**SETTINGS, **change}, "x.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_target_is_named() -> None:
    with pytest.raises(BadParameter, match=r"x\.yaml: source_target: Field required"):
        columns_from({"target": "default", "columns": {"AGE": {}}}, "x.yaml")


def test_a_file_that_describes_no_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("", encoding="utf-8")
    with pytest.raises(BadParameter, match=r"other\.yaml describes no columns"):
        read_columns(tmp_path / "other.yaml")


def test_a_description_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Column(), "min", 3)  # noqa: B010 - mypy refuses the plain assignment, as it should


def test_description_that_builds_on_another_takes_over_its_columns() -> None:
    sample, uci = (read_columns(ROOT / "data" / f"{name}.yaml") for name in ("sample", "uci"))
    assert sample.columns == uci.columns
    assert sample.target == uci.target
    assert "SYNTHETIC" in sample.description
