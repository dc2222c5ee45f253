"""download.describe: the draft of a data set's description says what the table shows, and a person can read it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from check_data.checks import Checked, run_checks
from download.describe import as_yaml, main
from download.draft import Told, classes_of, describe, draft, has_leading_zeros, identifier_of
from preprocess.run import tidy
from stepkit.columns import columns_from, read_columns
from stepkit.errors import TableUnfit
from stepkit.tables import read_table

TABLE = pd.DataFrame(
    {
        "loan": ["L1", "L2", "L3", "L4"],
        "purpose": ["car", "no", None, "007"],
        "income": [1.5, 2.0, 3.25, 4.0],
        "children": [0, 1, 2, 0],
        "balance": [-5.0, 30.0, 100.0, 7.0],
        "empty": [None] * 4,
        "outcome": ["repaid", "lost", "repaid", "repaid"],
    }
)


def told(**more: str) -> Told:
    return Told(**{"name": "loans", "target": "outcome", "positive": "", "id_column": "", **more})


def test_a_draft_describes_target_id_and_columns() -> None:
    found = draft(TABLE, told(), "loans.csv")
    columns = columns_from(found, "draft")
    assert (columns.id_column, columns.target, columns.negative, columns.positive) == (
        "loan",
        "outcome",
        "repaid",
        "lost",
    )
    assert columns.names == ["purpose", "income", "children", "balance"]
    assert found["columns"]["purpose"] == {
        "type": "text",
        "role": "categorical",
        "values": ["007", "car", "no"],
        "max_missing": 0.38,
        "meaning": "",
    }
    assert found["columns"]["income"] == {"type": "float", "min": 0, "meaning": ""}
    assert found["columns"]["children"] == {"values": [0, 1, 2], "meaning": ""}
    assert found["columns"]["balance"] == {"values": [-5, 7, 30, 100], "meaning": ""}


def test_what_is_written_reads_back_as_it_was_meant() -> None:
    found = draft(TABLE, told(), "loans.csv")
    text = as_yaml(found, len(TABLE), {"empty": "it has no values", "town\n1": "99 different texts, more than 50"})
    assert yaml.safe_load(text) == found
    assert "  # left out, it has no values: empty" in text.splitlines()
    assert '  # left out, 99 different texts, more than 50: "town\\n1": {type: text, role: categorical}' in text
    assert '  income: {type: float, min: 0, meaning: ""}' in text.splitlines()
    assert f"data={found['name']} register.model_name={found['name']}" in text, "no other table's champion is displaced"


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (["yes", "no", "no"], "", ("no", "yes")),
        ([1, 1, 0], "", (0, 1)),
        (["a", "b", "a"], "", ("a", "b")),
        (["a", "b", "a"], "a", ("b", "a")),
        ([True, False, True], "", ("False", "True")),
    ],
)
def test_the_class_that_becomes_1(values: list[object], positive: str, expected: tuple[object, object]) -> None:
    assert classes_of(pd.Series(values, name="t"), positive) == expected


@pytest.mark.parametrize(("values", "positive"), [(["a", "a"], ""), (["a", "b", "c"], ""), (["a", "b"], "c")])
def test_a_target_without_two_classes_is_refused_by_name(values: list[str], positive: str) -> None:
    with pytest.raises(TableUnfit, match="column 't'"):
        classes_of(pd.Series(values, name="t"), positive)


def test_free_text_and_columns_without_values_are_left_out() -> None:
    assert describe(pd.Series([f"a long remark {number}" for number in range(60)], name="remark")) == {}
    assert describe(pd.Series([None, None], name="gone", dtype=object)) == {}


def test_the_very_table_passes_what_was_drafted_of_it_though_its_words_look_like_booleans_and_gaps(
    tmp_path: Path,
) -> None:
    rows = [
        f"{['true', 'false'][row % 2]},{['None', 'wood'][row % 3 // 2]},{['true', 'false', ''][row % 3]},"
        f"{['NA', '1', '2'][row % 3]},{row},{['true', 'false'][row % 5 > 1]}"
        for row in range(59)
    ]
    (tmp_path / "plots.csv").write_text("\n".join(["active,fence,leased,dogs,area,sold", *rows]))
    output = tmp_path / "plots.yaml"
    main(["--file_url", str(tmp_path / "plots.csv"), "--target", "sold", "--output", str(output)])
    columns = read_columns(output)
    assert (columns.negative, columns.positive) == ("False", "True"), "the target is read as it comes, there as here"
    assert columns.columns["active"].values == ["false", "true"]
    assert columns.columns["fence"].values == ["None", "wood"]
    assert columns.columns["leased"].values == ["false", "true"]
    assert columns.columns["dogs"].values == [1, 2]
    sample = tidy(read_table(tmp_path / "plots.csv", text=columns.text), columns)
    assert run_checks(Checked(sample, columns, None, "none yet", 0.05)).failures == []


def test_codes_keep_their_leading_zeros_and_a_target_that_is_no_name_gets_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"0{row % 3}{row % 2},{row % 7}.0{row},{'yes' if row % 4 else 'no'}" for row in range(40)]
    (tmp_path / "shops.csv").write_text("\n".join(["postcode,sales,left town?", *rows]))
    output = tmp_path / "shops.yaml"
    main(["--file_url", str(tmp_path / "shops.csv"), "--target", "left town?", "--output", str(output)])
    columns = read_columns(output)
    assert columns.columns["postcode"].values == ["000", "001", "010", "011", "020", "021"]
    assert columns.columns["sales"].type == "float"
    assert "target left town?, called left_town_ from preprocess on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["07", *map(str, range(8, 30))], id="one number is padded"),
        pytest.param([f"{minute:02}" for minute in range(60)], id="more codes than a category may have"),
        pytest.param(["0", "1", "10"], id="a zero alone"),
    ],
)
def test_a_number_with_a_zero_in_front_is_no_code_for_that(values: list[str]) -> None:
    assert not has_leading_zeros(pd.Series(values))


def test_a_measured_number_is_no_identifier_though_all_differ() -> None:
    table = pd.DataFrame({"income": [1.0, 2.0, 3.0], "customerId": [7, 8, 9], "t": [0, 1, 0]})
    assert identifier_of(table, "t") == "customerId"
    assert identifier_of(table[["income", "t"]], "t") == ""


def test_a_description_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TABLE.to_csv(tmp_path / "loans.csv", index=False)
    output = tmp_path / "loans.yaml"
    command = ["--file_url", str(tmp_path / "loans.csv"), "--target", "outcome", "--output", str(output)]
    main(command)
    assert "lost is 1, 25.0% of 4 rows" in capsys.readouterr().out
    before = output.read_text()
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 1
    assert "is there already" in capsys.readouterr().err
    assert output.read_text() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "otcome"], "there is no column 'otcome'"),
        (["--target", "income"], "has 4 values"),
        (["--target", "outcome", "--name", "my loans"], "cannot name a data set"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    TABLE.to_csv(tmp_path / "loans.csv", index=False)
    with pytest.raises(SystemExit):
        main(["--file_url", str(tmp_path / "loans.csv"), "--output", str(tmp_path / "out.yaml"), *more])
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.yaml").exists()
