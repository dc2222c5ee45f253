"""download.describe: the draft of a description matches its table and is readable."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from check_data.checks import DataChecks, run_checks
from download.describe import format_yaml, main, make_name
from download.draft import (
    Choices,
    choose_classes,
    describe_column,
    draft_settings,
    explain_exclusion,
    find_identifier,
    has_leading_zeros,
)
from preprocess.run import clean_table
from stepkit.errors import TableUnfit
from stepkit.table.columns import Columns, parse_columns, read_columns
from stepkit.table.tables import read_table

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


def draft_description(file: Path, target: str, *flags: str) -> Columns:
    """Draft the description of a file next to it, and read it back."""
    output = file.with_name("out.yaml")
    main(["--file_url", str(file), "--target", target, "--output", str(output), *flags])
    return read_columns(output)


def make_choices(**overrides: str) -> Choices:
    return Choices(**{"name": "loans", "target": "outcome", "positive": "", "id_column": "", **overrides})


def test_a_draft_describes_target_id_and_columns() -> None:
    settings = draft_settings(TABLE, make_choices(), "loans.csv")
    columns = parse_columns(settings, "draft")
    classes = (columns.negative, columns.positive)
    assert (columns.id_column, columns.target, classes) == ("loan", "outcome", ("repaid", "lost"))
    assert columns.names == ["purpose", "income", "children", "balance"]
    purpose = {
        "type": "text",
        "role": "categorical",
        "values": ["007", "car", "no"],
        "max_missing": 0.38,
        "meaning": "",
    }
    assert settings["columns"]["purpose"] == purpose
    assert settings["columns"]["income"] == {"type": "float", "min": 0, "meaning": ""}
    assert settings["columns"]["children"] == {"values": [0, 1, 2], "meaning": ""}
    assert settings["columns"]["balance"] == {"values": [-5, 7, 30, 100], "meaning": ""}


def test_what_is_written_reads_back_as_it_was_meant() -> None:
    settings = draft_settings(TABLE, make_choices(), "loans.csv")
    text = format_yaml(
        settings, len(TABLE), {"empty": "it has no values", "town\n1": "99 different texts, more than 50"}
    )
    assert yaml.safe_load(text) == settings
    assert "  # left out, it has no values: empty" in text.splitlines()
    assert '  # left out, 99 different texts, more than 50: "town\\n1": {type: text, role: categorical}' in text
    assert '  income: {type: float, min: 0, meaning: ""}' in text.splitlines()
    assert f"data={settings['name']} register.model_name={settings['name']}" in text, (
        "no other table's champion is displaced"
    )


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
    assert choose_classes(pd.Series(values, name="t"), positive) == expected


@pytest.mark.parametrize(("values", "positive"), [(["a", "a"], ""), (["a", "b", "c"], ""), (["a", "b"], "c")])
def test_a_target_without_two_classes_is_refused_by_name(values: list[str], positive: str) -> None:
    with pytest.raises(TableUnfit, match="column 't'"):
        choose_classes(pd.Series(values, name="t"), positive)


STATUS = pd.Series(["Paid"] * 5 + ["Off"] * 3 + ["Current"] * 2 + ["Default, late"], name="t")


@pytest.mark.parametrize(
    ("positive", "expected"),
    [
        ("Off", (["Paid", "Current", "Default, late"], ["Off"])),
        ("Off, Current", (["Paid", "Default, late"], ["Off", "Current"])),
        ("Default, late", (["Paid", "Off", "Current"], ["Default, late"])),
    ],
)
def test_a_target_with_more_than_two_values_gets_lists(positive: str, expected: tuple[list[str], list[str]]) -> None:
    assert choose_classes(STATUS, positive) == expected


@pytest.mark.parametrize(
    ("target", "positive", "message"),
    [
        (STATUS, "", 'found 4 values: Paid, Off, .*Name the values of class 1: -P positive="A,B"'),
        (STATUS, "Off,Gone", "--positive: column 't' has no value 'Gone' .found: Paid, Off"),
        (pd.Series(range(51), name="t"), "1", "found 51 values: .*, \\.\\.\\.; expected 2.. Name another column"),
        (pd.Series(["a", "b"], name="t"), "a,b", "cannot be the target .found 2 values"),
    ],
)
def test_a_target_without_classes_says_what_to_type(target: pd.Series, positive: str, message: str) -> None:
    with pytest.raises(TableUnfit, match=message):
        choose_classes(target, positive)


def test_the_column_of_dates_is_proposed_and_is_not_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{['Paid', 'Off', 'Current'][row % 3]},{row % 7}.5,{['May', ''][row % 9 == 0]}-2001,Jan-201{row % 4},{row % 4}"
        for row in range(40)
    ]
    (tmp_path / "book.csv").write_text("\n".join(["status,rate,first_line,issue_d,delays", *rows]))
    columns = draft_description(tmp_path / "book.csv", "status", "--positive", "Off")
    assert (columns.time_column, columns.names) == ("issue_d", ["rate", "first_line", "delays"])
    assert (columns.negative, columns.positive) == (["Paid", "Current"], ["Off"])
    text = (tmp_path / "out.yaml").read_text(encoding="utf-8")
    assert "# Remove the values of unfinished cases" in text
    assert "time column issue_d" in capsys.readouterr().out


def test_of_several_columns_of_dates_the_first_with_the_fewest_gaps_is_the_date_of_the_row() -> None:
    months = pd.date_range("2015-01-01", periods=4, freq="MS").strftime("%b-%Y")
    table = TABLE.assign(
        closed=pd.Series(months).shift(1), opened=months, paid=months, month=[201501, 201501, 201502, 201503]
    )
    settings = draft_settings(table, make_choices(), "loans.csv")
    assert settings["time_column"] == "opened"
    assert not {"closed", "opened", "paid"} & set(settings["columns"]), "dates in words are not inputs"
    assert explain_exclusion(table["paid"]) == "its values are dates"
    assert "month" in settings["columns"], "a number may be more than a date"


def test_the_very_table_passes_what_was_drafted_of_it_though_its_words_look_like_booleans_and_gaps(
    tmp_path: Path,
) -> None:
    rows = [
        f"{['true', 'false'][row % 2]},{['None', 'wood'][row % 3 // 2]},{['true', 'false', ''][row % 3]},"
        f"{['NA', '1', '2'][row % 3]},{row},{['true', 'false'][row % 5 > 1]}"
        for row in range(59)
    ]
    (tmp_path / "plots.csv").write_text("\n".join(["active,fence,leased,dogs,area,sold", *rows]))
    columns = draft_description(tmp_path / "plots.csv", "sold")
    assert (columns.negative, columns.positive) == ("False", "True"), "the target is read as it comes, there as here"
    assert columns.columns["active"].values == ["false", "true"]
    assert columns.columns["fence"].values == ["None", "wood"]
    assert columns.columns["leased"].values == ["false", "true"]
    assert columns.columns["dogs"].values == [1, 2]
    sample = clean_table(read_table(tmp_path / "plots.csv", text=columns.text), columns)
    assert run_checks(DataChecks(sample, columns, None, "none yet", 0.05)).failures == []


def test_codes_keep_their_leading_zeros_and_a_target_that_is_no_name_gets_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"0{row % 3}{row % 2},{row % 7}.0{row},{'yes' if row % 4 else 'no'}" for row in range(40)]
    (tmp_path / "shops.csv").write_text("\n".join(["postcode,sales,left town?", *rows]))
    columns = draft_description(tmp_path / "shops.csv", "left town?")
    assert columns.columns["postcode"].values == ["000", "001", "010", "011", "020", "021"]
    assert columns.columns["sales"].type == "float"
    assert "target left town?, named left_town_ after preprocess" in capsys.readouterr().out


@pytest.mark.parametrize(
    "values",
    [["07", *map(str, range(8, 30))], [f"{minute:02}" for minute in range(60)], ["0", "1", "10"]],
    ids=["one number is padded", "more codes than a category may have", "a zero alone"],
)
def test_a_number_with_a_zero_in_front_is_no_code_for_that(values: list[str]) -> None:
    assert not has_leading_zeros(pd.Series(values))


def test_a_measured_number_is_no_identifier_though_all_differ() -> None:
    table = pd.DataFrame({"income": [1.0, 2.0, 3.0], "customerId": [7, 8, 9], "t": [0, 1, 0]})
    assert find_identifier(table, "t") == "customerId"
    assert find_identifier(table[["income", "t"]], "t") == ""
    assert find_identifier(pd.DataFrame({"NOx no": [1.5, 2.0, 3.25], "t": [0, 1, 0]}), "t") == ""


def test_a_description_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_csv(tmp_path, TABLE)
    draft_description(file, "outcome")
    assert "class 1: lost, 25.0% of 4 rows" in capsys.readouterr().out
    before = (tmp_path / "out.yaml").read_text()
    with pytest.raises(SystemExit) as stopped:
        draft_description(file, "outcome")
    assert stopped.value.code == 1
    assert "out.yaml: already exists" in capsys.readouterr().err
    assert (tmp_path / "out.yaml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["otcome"], "--target: the table has no column 'otcome'"),
        (["income"], "'income' cannot be the target (found 4 values"),
        (["outcome", "--name", "my loans"], "--name: 'my loans' cannot be the name"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit):
        draft_description(write_csv(tmp_path, TABLE), *arguments)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.yaml").exists()


def write_csv(folder: Path, table: pd.DataFrame, name: str = "loans.csv") -> Path:
    table.to_csv(folder / name, index=False)
    return folder / name


def make_loans(rows: int = 120) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "amount": [row * 37 % 100 * 10.5 for row in range(rows)],
            "months": [6 * (row % 5) for row in range(rows)],
            "late": [int(row % 3 == 0) for row in range(rows)],
        }
    )


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "rownames", "index", "id", "anything"])
@pytest.mark.parametrize(
    "counted",
    [range(120), range(1, 121), [row * 7 % 120 for row in range(120)], range(1000, 1120)],
    ids=["from 0", "from 1", "shuffled", "from 1000"],
)
def test_a_column_that_counts_the_rows_is_not_an_input(tmp_path: Path, name: str, counted: list[int]) -> None:
    table = make_loans()
    table.insert(0, name, list(counted))
    columns = draft_description(write_csv(tmp_path, table), "late")
    assert columns.names == ["amount", "months"]
    assert columns.id_column == ("id" if name == "id" else None)


def test_the_row_numbers_of_a_part_of_a_table_are_not_an_input() -> None:
    parts = [row * 3 for row in range(120)]
    for name, is_input in (("rownames", False), ("Unnamed: 0", False), ("distance", True)):
        assert bool(describe_column(pd.Series(parts, name=name))) == is_input
    assert describe_column(pd.Series([18, 19, 21, 22, 25], name="age")) != {}


@pytest.mark.parametrize(
    "classes",
    [
        *("ja nein", "oui non", "sí no", "да нет", "tak nie", "はい いいえ", "evet yok", "wahr falsch", "VRAI FAUX"),
        *("ya tidak", "có không", "bad good", "poor good", "Churned Stayed", "unpaid paid", "J N", "1 -1", "2 0"),
    ],
)
def test_the_usual_word_for_yes_or_bad_is_class_1_though_it_is_frequent(classes: str) -> None:
    positive, negative = classes.split()
    assert str(choose_classes(pd.Series([positive, positive, negative], name="t"), "")[1]) == positive


@pytest.mark.parametrize("rows", [["1", "1", "2"], ["a", "a", "b"], ["bad", "bad", "poor"]])
def test_of_two_words_that_do_not_tell_the_rarer_is_class_1(rows: list[str]) -> None:
    assert str(choose_classes(pd.Series(rows, name="t"), "")[1]) == rows[-1]


@pytest.mark.parametrize(
    "last",
    [
        {"town": "Total"},
        {"town": "Summe", "amount": 63000.0},
        {"town": "Total", "amount": 63000.0, "months": 1440.0, "late": 40.0},
        {"town": "Source: branch office"},
    ],
)
def test_a_last_row_with_totals_or_a_note_is_pointed_out(last: dict[str, object]) -> None:
    table = pd.concat([make_loans().assign(town="Bonn"), pd.DataFrame([last])], ignore_index=True)
    with pytest.raises(TableUnfit, match=f"the last row is not a row of data: .*{last['town']}.*Delete it"):
        draft_settings(table, make_choices(target="late"), "loans.csv")


def test_a_last_row_with_a_gap_or_the_name_total_is_a_row_of_data() -> None:
    table = make_loans().assign(town="Bonn")
    table.loc[119, "town"] = "Total"
    table.loc[118, "late"] = None
    assert draft_settings(table, make_choices(target="late"), "loans.csv")["columns"]["town"]["values"] == [
        "Bonn",
        "Total",
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("kunden übersicht.csv", "kunden_ubersicht"),
        ("inf.csv", "table_inf"),
        ("NaN.csv", "table_NaN"),
        ("null.csv", "table_null"),
        ("2024-loans.csv", "table_2024_loans"),
        ("clients (1).csv", "clients__1_"),
        ("loans.csv.gz", "loans"),
    ],
)
def test_a_data_set_gets_a_name_that_the_printed_command_can_hold(file: str, name: str) -> None:
    assert make_name(file) == name
    override = OverridesParser.create().parse_override(f"data={name}")
    assert override.value() == name
    assert isinstance(override.value(), str)


def test_a_file_name_without_a_letter_of_ascii_asks_for_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--file_url", str(write_csv(tmp_path, make_loans(), "客户.csv")), "--target", "late"])
    assert "-P name=loans" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rename",
    [{"late": "late ${HOME}"}, {"amount": "${data.target}"}, {"late": "???"}],
)
def test_a_name_that_the_configuration_would_resolve_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rename: dict[str, str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        draft_description(write_csv(tmp_path, make_loans().rename(columns=rename)), rename.get("late", "late"))
    assert stopped.value.code == 1
    assert f"{next(iter(rename.values()))}" in (message := capsys.readouterr().err)
    assert "Rename it in the table" in message
    assert not (tmp_path / "out.yaml").exists()


def test_a_left_out_text_comes_with_the_line_to_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_loans().assign(town=[f"T{row % 60}" for row in range(120)])
    draft_description(write_csv(tmp_path, table), "late")
    output = tmp_path / "out.yaml"
    assert "town (60 different texts, more than 50, see the end of the file)" in capsys.readouterr().out
    text = output.read_text()
    assert "# - Fill in description, licence, limits and each meaning" in text
    assert "at most 20 of them: months." in text, "its values may be counts"
    line = text.splitlines()[-1]
    assert line == "  # left out, 60 different texts, more than 50: town: {type: text, role: categorical}"
    output.write_text(text + "  " + line.partition(": ")[2] + "\n")
    columns = read_columns(output)
    assert (columns.text, columns.description) == (["town"], "")


def test_only_an_id_marks_rows_as_copies_and_only_where_few_are_alike() -> None:
    table = make_loans()
    table.insert(0, "customer_id", [f"C{row}" for row in range(120)])
    assert draft_settings(table, make_choices(target="late"), "t.csv")["duplicates"] == "drop"
    assert draft_settings(table.assign(amount=1.0), make_choices(target="late"), "t.csv")["duplicates"] == "keep"
    assert "duplicates" not in draft_settings(make_loans(), make_choices(target="late"), "t.csv")


def test_bytes_and_nested_values_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_loans().assign(
        photo=b"\x00\xff", history=pd.Series([[1, 2]] * 120), person=pd.Series([{"a": 1}] * 120)
    )
    table.to_parquet(tmp_path / "loans.parquet")
    assert draft_description(tmp_path / "loans.parquet", "late").names == ["amount", "months"]
    printed = capsys.readouterr().out
    for name in ("photo", "history", "person"):
        assert f"{name} (its values are bytes or nested" in printed


def test_the_header_of_a_sheet_is_found_by_the_target(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "loans.xlsx") as book:
        pd.DataFrame([["Please read"], ["late"]]).to_excel(book, sheet_name="Notes", index=False, header=False)
        make_loans().to_excel(book, sheet_name="Data", index=False, startrow=2)
    assert draft_description(tmp_path / "loans.xlsx", "late").names == ["amount", "months"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.parquet", b"PARE and no more", "cannot be read as Parquet"),
        ("t.xlsx", b"PK\x03\x04 and no more", "t.xlsx"),
        ("records.json", b'[{"late": 1}]', "is JSON. Save the table in one of the formats .csv, .parquet"),
        ("t.csv", b"a,late\n", "a header and no rows"),
    ],
)
def test_a_file_that_is_not_a_table_is_one_message_with_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        draft_description(tmp_path / name, "late")
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.endswith(f". Source: {tmp_path / name}\n")
    assert not (tmp_path / "out.yaml").exists()


@pytest.mark.parametrize("leak", ["yes no", "no yes", "1 2"])
def test_a_copy_of_the_target_is_named_as_possible_leakage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], leak: str
) -> None:
    words = leak.split()
    rows = [f"{row * 7919 % 101},{words[row % 4 == 0]},{'lost' if row % 4 == 0 else 'repaid'}" for row in range(40)]
    (tmp_path / "loans.csv").write_text("\n".join(["amount,approved,outcome", *rows]))
    draft_description(tmp_path / "loans.csv", "outcome")
    said = capsys.readouterr().out
    assert "Warning: possible leakage, ROC AUC of one column alone: approved (1.000) (limit 0.98). " in said
    assert said.endswith('register.model_name=loans"\n')


def test_a_table_without_leakage_is_drafted_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{row * 7919 % 101},{row % 3},{'lost' if row % 4 == 0 else 'repaid'}" for row in range(40)]
    (tmp_path / "loans.csv").write_text("\n".join(["amount,children,outcome", *rows]))
    draft_description(tmp_path / "loans.csv", "outcome")
    assert "Warning" not in capsys.readouterr().out
