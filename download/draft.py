"""Rules that draft the description of a data set from its table."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stepkit.errors import TableUnfit
from stepkit.table.columns import ClassValues
from stepkit.table.dates import is_date_column
from stepkit.table.tables import to_plain_text

MOST_CODES = 20
"""A column of whole numbers with at most so many different ones gets its known values listed."""

MOST_SHOWN = 8
"""Number of values that a message shows."""

MOST_CATEGORIES = 50
"""A column with more different texts than this holds free text, names or dates and is left out."""

LARGEST_CODE = 2**24
"""Largest whole number up to which 32-bit floats represent every whole number: a model confuses larger codes."""

MOST_COPIES = 0.1
"""Share of rows that differ only in their id, up to which they count as copies. Beyond it they repeat by chance."""

POSITIVE = re.compile(
    "1|true|t|yes|y|ja|j|oui|o|si|sí|s|sim|da|tak|ano|áno|igen|evet|kyllä|joo|jah|так|да|はい|是|有|예|हाँ|نعم|כן|"
    "ya|có|wahr|vrai|vero|verdadero|verdadeiro|prawda|waar|sann|doğru|истина|var|"
    "positive|pos|bad|poor|default|defaulted|churn|churned|fraud|fraudulent|late|overdue|delinquent|lost|rejected|"
    "failed|failure|fail|sick|ill|dead|died|deceased|malignant|abnormal|spam|left|exited|attrited|event|case|"
    "schlecht|mauvais|malo|ruim|mau|cattivo|slecht|zły"
)
NEGATIVE = re.compile(
    "0|-1|false|f|no|n|nein|non|não|nao|nee|nej|nei|ne|nie|net|ei|nem|нет|ні|όχι|いいえ|否|无|아니오|لا|לא|"
    "tidak|không|hay\u0131r|nu|falsch|faux|falso|fałsz|onwaar|falsk|yanl\u0131ş|ложь|yok|"
    "negative|neg|good|fine|paid|repaid|current|stayed|stay|retained|active|legitimate|genuine|honest|healthy|alive|"
    "survived|benign|normal|ham|passed|pass|approved|none|control|gut|bon|bueno|bom|buono|goed|dobry"
)
"""Usual words for class 1 and class 0. The word 1 counts only if the other class is 0 or -1."""

DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}\b.*")
SUM = re.compile(r"(grand )?(totals?|sum|summe|gesamt|somme|suma|totale|итого)\W*", re.IGNORECASE)

COUNTER = re.compile(r"(row_?(names?|nr|num|number|index)?|index|idx|nr|no|#|obs|lfd_?nr|zeile)\.?", re.IGNORECASE)
"""Usual names of a column that counts the rows, even if some rows of the table were removed since."""


@dataclass(frozen=True)
class Choices:
    """The user's choices for a table. The draft chooses where a text is empty."""

    name: str
    target: str
    positive: str
    id_column: str


def draft_settings(table: pd.DataFrame, choices: Choices, file_url: str) -> dict[str, Any]:
    """Return the settings of a data set; raise TableUnfit for a wrong target or id, or a last row that holds totals."""
    for flag, name in (("--target", choices.target), ("--id_column", choices.id_column)):
        if name and name not in table.columns:
            columns = ", ".join(map(str, table.columns))
            raise TableUnfit(f"{flag}: the table has no column '{name}'. Its columns: {columns}.")
    verify_no_total(table, choices.target)
    negative, positive = choose_classes(table[choices.target], choices.positive)
    identifier = choices.id_column or find_identifier(table, choices.target)
    time_column = find_time_column(table.drop(columns=[name for name in (choices.target, identifier) if name]))
    copies = table.drop(columns=identifier or []).duplicated().mean()
    inputs = [str(name) for name in table.columns if name not in (choices.target, identifier, time_column)]
    target = re.sub(r"\W+", "_", choices.target)
    while target in [*inputs, time_column]:
        target += "_"
    return {
        "name": choices.name,
        **dict.fromkeys(("description", "licence", "limits"), ""),
        "file_url": file_url,
        **({"id_column": identifier, "duplicates": "drop" if copies <= MOST_COPIES else "keep"} if identifier else {}),
        **({"time_column": time_column} if time_column else {}),
        "source_target": choices.target,
        **dict.fromkeys(("target", "stratify"), target),
        "negative": negative,
        "positive": positive,
        "columns": {name: described for name in inputs if (described := describe_column(table[name]))},
    }


def verify_no_total(table: pd.DataFrame, target: str) -> None:
    """Raise TableUnfit if the last row is a total or a note: no class, and mostly empty or with a word for a sum."""
    last = table.iloc[-1]
    cells = [str(cell) for cell in last.dropna()]
    is_sum = any(SUM.fullmatch(cell) for cell in cells)
    is_class = pd.notna(last[target]) and not (is_sum and to_plain_text(table[target]).nunique() == 3)
    if cells and not is_class and (is_sum or len(cells) < len(last) / 2):
        raise TableUnfit(
            f"the last row is not a row of data: {', '.join(cells)[:200]} (empty cells: {len(last) - len(cells)}). "
            "Delete it and try again."
        )


def choose_classes(target: pd.Series, positive: str) -> tuple[ClassValues, ClassValues]:
    """Return the values for class 0 and class 1.

    `positive` is one value for class 1, or several that are separated by commas. Without it, class 1 is the usual word
    for it, else the rarer value. If the target has more than two values, the classes are lists.

    Raises:
        TableUnfit: the target has not two values, or one of `positive` does not occur.
    """
    counts = to_plain_text(target).dropna().value_counts()
    values = [str(value) for value in counts.index]
    names = [positive] if positive in values else [name.strip() for name in positive.split(",") if name.strip()]
    if unknown := [name for name in names if name not in values]:
        raise TableUnfit(
            f"--positive: column '{target.name}' has no value {' or '.join(map(repr, unknown))} (found: "
            f"{', '.join(values[:MOST_CODES])})."
        )
    others = [value for value in values if value not in names]
    if len(values) < 2 or not others or len(values) > (MOST_CATEGORIES if names else 2):
        raise TableUnfit(_explain_target(target, values))
    if len(values) == 2:
        class_1 = names[0] if names else find_usual_positive(values) or values[-1]
        (class_0,) = (value for value in values if value != class_1)
        return to_yaml_value(class_0), to_yaml_value(class_1)
    return [to_yaml_value(value) for value in others], [to_yaml_value(name) for name in dict.fromkeys(names)]


def _explain_target(target: pd.Series, values: list[str]) -> str:
    """Return the message about a target that does not have two classes."""
    empty = f"; empty cells: {target.isna().sum():,}" if target.isna().any() else ""
    shown = f"{', '.join(values[:MOST_SHOWN])}{', ...' if len(values) > MOST_SHOWN else ''}"
    lists = 'Name the values of class 1: -P positive="A,B". Or name another column: -P target=COLUMN'
    return (
        f"column '{target.name}' cannot be the target (found {len(values)} values: {shown}{empty}; expected 2). "
        f"{lists if 2 < len(values) <= MOST_CATEGORIES else 'Name another column: -P target=COLUMN'}"
    )


def find_usual_positive(values: list[str]) -> str:
    """Return the value that is a usual word for class 1, or whose opposite is one for class 0; "" if neither is."""
    for value, other in (values, values[::-1]):
        word, opposite = (text.strip().casefold() for text in (value, other))
        if word == "1" and opposite not in ("0", "-1"):
            continue
        if POSITIVE.fullmatch(opposite) or NEGATIVE.fullmatch(word):
            continue
        if POSITIVE.fullmatch(word) or NEGATIVE.fullmatch(opposite):
            return value
    return ""


def to_yaml_value(value: str) -> int | str:
    """Return a class as a number if its text is that of a whole number, else as text."""
    return int(value) if re.fullmatch(r"-?\d+", value) and str(int(value)) == value else value


def find_time_column(table: pd.DataFrame) -> str:
    """Return the column with the date of each row: of all columns of dates, the first with the fewest gaps; or ""."""
    names = [str(name) for name in table.columns if is_date_column(table[name])]
    return min(names, key=lambda name: table[name].isna().sum(), default="")


def find_identifier(table: pd.DataFrame, target: str) -> str:
    """Return the column that identifies the rows: all values differ, and none is a measured number. "" if none does."""
    for name in (str(column) for column in table.columns if column != target):
        is_named_id = re.search(r"(^|[_\W])(id|key|no|number|nr)$", name, re.IGNORECASE) or name.endswith("Id")
        is_date = DATE.fullmatch(str(table[name].iloc[0])) or is_date_column(table[name])
        is_measured = (pd.to_numeric(table[name], errors="coerce") % 1 > 0).any()
        is_candidate = (is_named_id and not is_measured) or (is_text(table[name]) and not is_date)
        if is_candidate and table[name].is_unique and len(table) > 1:
            return name
    return ""


def is_text(values: pd.Series) -> bool:
    """Return True for a column of words or of codes such as 007. true and false count as words, even with gaps."""
    if pd.api.types.infer_dtype(values, skipna=True) == "boolean" or has_leading_zeros(values):
        return True
    return bool(pd.to_numeric(values, errors="coerce").isna().sum() > values.isna().sum())


def has_leading_zeros(values: pd.Series) -> bool:
    """Return True for a column of texts with codes such as 007, which would lose their zeros as numbers.

    All codes must have the same width: a single padded number does not count. A column with more than MOST_CATEGORIES
    codes does not count either, because it is more useful as a number than left out.
    """
    if pd.api.types.is_numeric_dtype(values):
        return False
    codes = values.dropna().astype(str)
    if not codes.str.fullmatch(r"0\d+").any() or codes.nunique() > MOST_CATEGORIES:
        return False
    return bool(codes.str.fullmatch(r"\d+").all() and codes.str.len().nunique() == 1)


def explain_exclusion(values: pd.Series) -> str:
    """Return the reason why a column is not an input; "" for an input."""
    if values.notna().sum() == 0:
        return "it has no values"
    if re.fullmatch(r"Unnamed: \d+", str(values.name)):
        return "the header has no name for it"
    if is_row_counter(values):
        return "it counts the rows"
    if is_text(values) and is_date_column(values):
        return "its values are dates"
    count = values.nunique()
    if is_text(values) and count > MOST_CATEGORIES:
        return f"{count} different texts, more than {MOST_CATEGORIES}"
    return ""


def is_row_counter(values: pd.Series) -> bool:
    """Return True for unique whole numbers that have no gaps, or whose column has a usual name of a row number."""
    numbers = pd.to_numeric(values, errors="coerce")
    if len(numbers) < 3 or not numbers.is_unique or numbers.isna().any() or (numbers % 1 != 0).any():
        return False
    is_named_counter = COUNTER.fullmatch(str(values.name)) is not None
    return is_named_counter or bool(numbers.max() - numbers.min() == len(numbers) - 1)


def describe_column(values: pd.Series) -> dict[str, Any]:
    """Return the keys of a column in data/*.yaml; an empty dict for a column that cannot be an input."""
    if explain_exclusion(values):
        return {}
    missing = values.isna().mean()
    gaps = {"max_missing": min(1.0, math.ceil(missing * 150) / 100)} if missing else {}
    if is_text(values):
        codes = sorted(to_plain_text(values).dropna().unique())
        return {"type": "text", "role": "categorical", "values": codes, **gaps, "meaning": ""}
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    is_integer = bool((numbers % 1 == 0).all())
    keys: dict[str, Any] = {} if is_integer else {"type": "float"}
    if is_integer and numbers.nunique() <= MOST_CODES and numbers.abs().max() <= LARGEST_CODE:
        keys["values"] = sorted(int(value) for value in numbers.unique())
    elif numbers.min() >= 0:
        keys["min"] = 0
    return {**keys, **gaps, "meaning": ""}
