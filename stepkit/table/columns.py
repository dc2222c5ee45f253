"""Description of a data set (data/*.yaml): its target, its columns and their expected values."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from stepkit.errors import BadParameter

COLUMNS_ARTIFACT = "columns.yaml"
"""Every step that publishes a table also publishes this artifact, so that the next step knows the columns."""

TYPE_TRIED = re.compile(r"literal\[|constrained-|function-|(int|float|str|bool|none|list|dict)\b")
"""Pydantic's name for one of several allowed types; it follows the key in the location of a problem."""

Code = StrictInt | StrictFloat | StrictStr  # strict, because YAML reads an unquoted yes as a boolean
ColumnType = Literal["integer", "float", "text"]
ClassValue = StrictInt | StrictStr
ClassValues = ClassValue | list[ClassValue]


class Strict(BaseModel):
    """Immutable pydantic model that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Strict):
    """Input column: storage type (`type`), use in the model (`role`) and allowed values.

    Attributes:
        label: display name in plots and tables; `labels` are the display names of the codes.
        slice_by: true for one slice per code; for a numeric column the limits of its bands, such as [30, 40].
        monotonic: increasing if the probability of class 1 must never fall when the value rises, decreasing if it must
            never rise. Gradient boosting obeys it, the forest with `random_forest.monotonic: true`.
        protected: true if the column is a protected attribute, such as sex or age. evaluate compares its groups: its
            codes, or for a numeric column the bands of `slice_by`.
        may_be_reason: false if the column is never offered as a reason for an answer; None: only if it is protected.
        reason: sentence for a column that raises the probability of class 1, such as "Late payment in {label}"; {label}
            and {value} are filled in.
    """

    type: ColumnType = "integer"
    role: Literal["numeric", "categorical"] = "numeric"
    values: list[Code] | None = None
    min: float | None = None
    max: float | None = None
    max_missing: float = Field(0.0, ge=0.0, le=1.0)
    meaning: str = ""
    label: str = ""
    labels: dict[Code, str] = Field(default_factory=dict)
    slice_by: bool | list[float] = False
    monotonic: Literal["increasing", "decreasing"] | None = None
    protected: bool = False
    may_be_reason: bool | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _verify_role(self) -> Self:
        if self.type == "text" and self.role != "categorical":
            raise ValueError("a text column must have role: categorical. Free text, names or dates: remove its line")
        if self.monotonic and self.role != "numeric":
            raise ValueError("monotonic: codes have no order. Use role: numeric, or remove the key")
        return self

    @model_validator(mode="after")
    def _verify_slices(self) -> Self:
        if self.slice_by is True and self.role != "categorical":
            raise ValueError(
                "slice_by: true needs codes. Give a numeric column the limits of its bands: slice_by: [30, 40]"
            )
        if self.bands and (self.role == "categorical" or sorted(set(self.bands)) != self.bands):
            raise ValueError("slice_by: the limits of bands must rise, and the column must be numeric")
        return self

    @model_validator(mode="after")
    def _verify_reason(self) -> Self:
        try:
            self.reason.format(label="", value="")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"reason: only {{label}} and {{value}} may be in braces (found '{self.reason}'). Correct the sentence"
            ) from error
        if self.reason and self.is_offered is False:
            raise ValueError(
                "reason: this column is never offered as a reason. Remove the key, or set may_be_reason: true"
            )
        return self

    @model_validator(mode="after")
    def _verify_protected(self) -> Self:
        if self.protected and self.role == "numeric" and not self.bands:
            raise ValueError("protected: a numeric column needs the limits of its groups: slice_by: [30, 40]")
        return self

    @property
    def is_offered(self) -> bool:
        """True if the column may be a reason for an answer."""
        return not self.protected if self.may_be_reason is None else self.may_be_reason

    @property
    def slices(self) -> bool:
        """True if the model is also measured on slices by this column."""
        return self.slice_by is not False and self.slice_by != []

    @property
    def bands(self) -> list[float]:
        """Limits of the bands of a numeric column."""
        return [] if isinstance(self.slice_by, bool) else self.slice_by

    def get_label(self, value: str) -> str:
        """Return the display name of a code, or the code itself if it has none."""
        return {str(code): text for code, text in self.labels.items()}.get(value, value)


class Columns(Strict):
    """Columns of a data set, with the target before (`source_target`) and after (`target`) preprocess.

    Attributes:
        licence: licence of the data. The model card in the report shows it, together with the `limits` of the data.
        negative: value of the target for class 0, or a list of values; `positive`: the same for class 1. If one of them
            is a list, rows with any other value are left out, such as loans that are not finished.
        time_column: column with the date of each row. It is an input of the model only if `columns` names it too.
        undated: rows without a date: drop, or train to keep them in the training part; None: an error if the split is
            by time.
        duplicates: drop if identical rows are copies, keep if they are separate cases; None: keep with a warning.
        synthetic: true if no row is real; a champion of such a data set may be replaced by a model of any other.
        leakage_checked: columns that rank the rows suspiciously well alone, and whose values are known at the time of
            a prediction.
    """

    name: str = ""
    description: str = ""
    licence: str = ""
    limits: str = ""
    synthetic: bool = False
    source_target: str
    target: str
    negative: ClassValues = 0
    positive: ClassValues = 1
    id_column: str | None = None
    time_column: str | None = None
    undated: Literal["drop", "train"] | None = None
    duplicates: Literal["drop", "keep"] | None = None
    leakage_checked: list[str] = Field(default_factory=list)
    columns: dict[str, Column] = Field(min_length=1)

    @model_validator(mode="after")
    def _verify_names(self) -> Self:
        for name in (self.source_target, self.target, self.id_column):
            if name in self.columns:
                raise ValueError(f"'{name}' is the target or the id column and cannot be an input column")
        if self.time_column and self.time_column in (self.source_target, self.target, self.id_column):
            raise ValueError(f"time_column: '{self.time_column}' is also the target or the id column")
        if self.undated and not self.time_column:
            raise ValueError(f"undated: {self.undated} needs a time_column, the column with the date of each row")
        if unknown := [name for name in self.leakage_checked if name not in self.columns]:
            names = ", ".join(self.names)
            raise ValueError(f"leakage_checked: no column {', '.join(unknown)}. Columns of the data set: {names}")
        return self

    @model_validator(mode="after")
    def _verify_classes(self) -> Self:
        values = {"negative": _to_texts(self.negative), "positive": _to_texts(self.positive)}
        for key, texts in values.items():
            if not texts:
                raise ValueError(f"{key}: the list is empty. Write the values of the target that belong to this class")
            if repeated := [text for text in texts if texts.count(text) > 1]:
                raise ValueError(f"{key}: the list has the value '{repeated[0]}' twice")
        if both := [text for text in values["positive"] if text in values["negative"]]:
            raise ValueError(f"the value '{both[0]}' is in both positive and negative. Remove it from one of them")
        return self

    @property
    def names(self) -> list[str]:
        """Names of the input columns, in order."""
        return list(self.columns)

    @property
    def numeric(self) -> list[str]:
        """Names of the numeric input columns."""
        return [name for name, column in self.columns.items() if column.role == "numeric"]

    @property
    def categorical(self) -> list[str]:
        """Names of the categorical input columns."""
        return [name for name, column in self.columns.items() if column.role == "categorical"]

    @property
    def text(self) -> list[str]:
        """Names of the input columns that are stored as text."""
        return [name for name, column in self.columns.items() if column.type == "text"]

    @property
    def protected(self) -> list[str]:
        """Names of the protected input columns."""
        return [name for name, column in self.columns.items() if column.protected]

    @property
    def classes(self) -> dict[int | str, int]:
        """Class (0 or 1) of each value of the target in the source; the first value of a class represents it."""
        sides = ((self.negative, 0), (self.positive, 1))
        return {value: number for values, number in sides for value in _to_list(values)}

    @property
    def lists_classes(self) -> bool:
        """True if the classes are lists, so that rows with another value of the target are left out."""
        return isinstance(self.negative, list) or isinstance(self.positive, list)

    @property
    def class_names(self) -> tuple[str, str]:
        """Values of the target in the source: of class 0, of class 1."""
        return format_class(self.negative), format_class(self.positive)

    def to_yaml(self) -> str:
        """Return the description as YAML, without defaults."""
        return yaml.safe_dump(self.model_dump(exclude_defaults=True), sort_keys=False)


def format_class(values: ClassValues) -> str:
    """Return the name of a class, from its value or values: "lost", "lost or late", "lost or 3 more"."""
    first, *others = _to_texts(values)
    if not others:
        return first
    return f"{first} or {others[0] if len(others) == 1 else f'{len(others)} more'}"


def _to_list(values: ClassValues) -> list[ClassValue]:
    return values if isinstance(values, list) else [values]


def _to_texts(values: ClassValues) -> list[str]:
    return [str(value) for value in _to_list(values)]


def parse_columns(settings: dict[str, Any], where: str) -> Columns:
    """Return the columns in a data set's settings; raise BadParameter that names the source (`where`) and the key."""
    if "columns" not in settings:
        raise BadParameter(f"{where}: no key 'columns'. Use a data set description such as data/uci.yaml.")
    for key in settings.keys() - Columns.model_fields.keys():
        # A data set also has keys of other schemas, so only a key that resembles one of this schema is a mistake.
        if (close := _find_close_key(str(key), Columns)) and close not in settings:
            raise BadParameter(f"{where}: unknown key '{key}'; did you mean {close}?")
    values = {key: settings[key] for key in Columns.model_fields if key in settings}
    try:
        return Columns(**values)
    except ValueError as error:
        raise BadParameter(
            f"{where}: {format_first_problem(error)}{suggest_key(getattr(error, 'errors', list)())}"
        ) from error


def suggest_key(problems: list[Any]) -> str:
    """Return " (did you mean ...?)" if the first of pydantic's problems is an unknown key, else an empty text."""
    if not problems or problems[0]["type"] != "extra_forbidden":
        return ""
    close = _find_close_key(str(problems[0]["loc"][-1]), Column)
    return f" (did you mean {close}?)" if close else ""


def _find_close_key(typed: str, model: type[Strict]) -> str:
    return next(iter(difflib.get_close_matches(typed, model.model_fields, n=1, cutoff=0.75)), "")


def read_columns(path: Path) -> Columns:
    """Return the columns described in a YAML file; raise BadParameter if the description is missing or wrong."""
    try:
        return parse_columns(_read_with_defaults(path), path.name)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{path.name}: not YAML: {error}") from error
    except (OSError, TypeError, RecursionError) as error:
        raise BadParameter(f"{path.name}: defaults must list other files in the same folder ({error}).") from error


def _read_with_defaults(path: Path) -> dict[str, Any]:
    """Return the settings of a file merged over those of its `defaults`, as Hydra composes them."""
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict):
        raise BadParameter(f"{path.name}: not a mapping of keys to values, so it describes no columns.")
    settings: dict[str, Any] = {}
    for name in loaded.pop("defaults", []):
        if name != "_self_":
            settings = _merge(settings, _read_with_defaults(path.with_name(f"{name}.yaml")))
    return _merge(settings, loaded)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    shared = [key for key in above if isinstance(below.get(key), dict) and isinstance(above[key], dict)]
    return {**below, **above, **{key: _merge(below[key], above[key]) for key in shared}}


def format_first_problem(error: ValueError) -> str:
    """Return the first problem of a pydantic model in one line: key and reason."""
    if not hasattr(error, "errors"):
        return str(error)
    key, reason = locate_problem(error.errors())
    return f"{key}: {reason}" if key else reason


def locate_problem(problems: list[Any]) -> tuple[str, str]:
    """Return the key of the first problem and its reason; for a choice of types, one reason per type."""
    location, same_key = problems[0]["loc"], problems[:1]
    if location and TYPE_TRIED.match(str(location[-1])):
        location = location[:-1]
        same_key = [problem for problem in problems if problem["loc"][:-1] == location]
    reasons = dict.fromkeys(problem["msg"].removeprefix("Value error, ") for problem in same_key)
    return ".".join(str(part) for part in location), "; or ".join(reasons)
