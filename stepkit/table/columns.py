"""The description of a data set: its target, its columns, and what is known of their values (data/*.yaml)."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from stepkit.errors import BadParameter

COLUMNS_ARTIFACT = "columns.yaml"
"""Every step that publishes a table publishes this file beside it, so that the next step knows the columns."""

TYPE_TRIED = re.compile(r"literal\[|constrained-|function-|(int|float|str|bool|none|list|dict)\b")
"""How pydantic calls one of several types that a value may have; it stands behind the key."""

Code = StrictInt | StrictFloat | StrictStr  # strict: YAML reads an unquoted yes as a boolean, which no row holds
ColumnType = Literal["integer", "float", "text"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Strict):
    """One input column: how it is stored (`type`), how the model takes it (`role`), what may stand in it.

    Attributes:
        label: its name for people, in plots and tables; `labels`: those of its codes.
        slice_by: true to look at the model per code, limits of bands ([30, 40]) to look at it per band.
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

    @model_validator(mode="after")
    def _verify_role(self) -> Self:
        if self.type == "text" and self.role != "categorical":
            raise ValueError(
                "a text column must have role: categorical; free text, a name or a date no model takes: remove its line"
            )
        return self

    @model_validator(mode="after")
    def _verify_slices(self) -> Self:
        if self.slice_by is True and self.role != "categorical":
            raise ValueError("slice_by: true is for codes; a numeric column takes the limits of its bands: [30, 40]")
        if self.bands and (self.role == "categorical" or sorted(set(self.bands)) != self.bands):
            raise ValueError("slice_by takes rising limits of bands, for a numeric column")
        return self

    @property
    def slices(self) -> bool:
        """Whether the model is looked at per code or band of this column."""
        return self.slice_by is not False and self.slice_by != []

    @property
    def bands(self) -> list[float]:
        return [] if isinstance(self.slice_by, bool) else self.slice_by

    def get_label(self, value: str) -> str:
        """The name of a code for people; the code itself if it has none."""
        return {str(code): text for code, text in self.labels.items()}.get(value, value)


class Columns(Strict):
    """The columns of one data set, and the target before (`source_target`) and after preprocess (`target`).

    Attributes:
        licence: under which the data may be used; `limits`: what nobody should read into them. For people: both
            stand in the model card of a run's report.
        duplicates: drop if identical rows are copies of one case, keep if they are cases; None: keep, with a warning.
        synthetic: no row is real; a champion of such a data set gives way to a model of any other one.
    """

    name: str = ""
    description: str = ""
    licence: str = ""
    limits: str = ""
    synthetic: bool = False
    source_target: str
    target: str
    negative: StrictInt | StrictStr = 0
    positive: StrictInt | StrictStr = 1
    id_column: str | None = None
    duplicates: Literal["drop", "keep"] | None = None
    columns: dict[str, Column] = Field(min_length=1)

    @model_validator(mode="after")
    def _verify_names(self) -> Self:
        for name in (self.source_target, self.target, self.id_column):
            if name in self.columns:
                raise ValueError(f"'{name}' is the target or the id, so it cannot be an input column too")
        return self

    @property
    def names(self) -> list[str]:
        """Input columns in their order, without the target."""
        return list(self.columns)

    @property
    def numeric(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.role == "numeric"]

    @property
    def categorical(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.role == "categorical"]

    @property
    def text(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.type == "text"]

    @property
    def classes(self) -> dict[int | str, int]:
        """The target's values in the source, and the 0 or 1 that they become."""
        return {self.negative: 0, self.positive: 1}

    @property
    def class_names(self) -> tuple[str, str]:
        """The target's values in the source, as people know them: that of class 0, that of class 1."""
        return str(self.negative), str(self.positive)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(exclude_defaults=True), sort_keys=False)


def parse_columns(settings: dict[str, Any], where: str) -> Columns:
    """Return the columns of a data set's settings; raise BadParameter that names a wrong key and `where`."""
    if "columns" not in settings:
        raise BadParameter(f"{where} describes no columns; name a file like data/uci.yaml that has 'columns:'.")
    for key in settings.keys() - Columns.model_fields.keys():
        # a data set has keys of other rooms too, and each of those is known to be none of these
        if (close := _find_close_key(str(key), Columns)) and close not in settings:
            raise BadParameter(f"{where}: there is no key '{key}'; did you mean {close}?")
    known = {key: settings[key] for key in Columns.model_fields if key in settings}
    try:
        return Columns(**known)
    except ValueError as error:
        raise BadParameter(
            f"{where}: {format_first_problem(error)}{suggest_key(getattr(error, 'errors', list)())}"
        ) from error


def suggest_key(problems: list[Any]) -> str:
    """Return the known key that a mistyped one, the first of pydantic's problems, may mean; else an empty text."""
    if not problems or problems[0]["type"] != "extra_forbidden":
        return ""
    close = _find_close_key(str(problems[0]["loc"][-1]), Column)
    return f" (did you mean {close}?)" if close else ""


def _find_close_key(typed: str, model: type[Strict]) -> str:
    return next(iter(difflib.get_close_matches(typed, model.model_fields, n=1, cutoff=0.75)), "")


def read_columns(path: Path) -> Columns:
    """Return the columns that a YAML file describes; raise BadParameter if it does not, or not rightly."""
    try:
        return parse_columns(_read_with_defaults(path), path.name)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{path.name} is not YAML: {error}") from error
    except (OSError, TypeError, RecursionError) as error:
        raise BadParameter(f"{path.name}: defaults must be a list of other files next to it ({error}).") from error


def _read_with_defaults(path: Path) -> dict[str, Any]:
    """The settings of a file after those of the files beside it that its `defaults` name, as Hydra composes them."""
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(own, dict):
        raise BadParameter(f"{path.name} describes no columns: it is no mapping of keys to values.")
    settings: dict[str, Any] = {}
    for name in own.pop("defaults", []):
        if name != "_self_":
            settings = _merge(settings, _read_with_defaults(path.with_name(f"{name}.yaml")))
    return _merge(settings, own)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    shared = [key for key in above if isinstance(below.get(key), dict) and isinstance(above[key], dict)]
    return {**below, **above, **{key: _merge(below[key], above[key]) for key in shared}}


def format_first_problem(error: ValueError) -> str:
    """Return one line for the first thing that a pydantic model did not accept: where and why."""
    if not hasattr(error, "errors"):
        return str(error)
    place, reason = locate_problem(error.errors())
    return f"{place}: {reason}" if place else reason


def locate_problem(problems: list[Any]) -> tuple[str, str]:
    """Return the key of the first problem, and what is wrong there; of a choice of types, what each would take."""
    place, same = problems[0]["loc"], problems[:1]
    if place and TYPE_TRIED.match(str(place[-1])):
        place = place[:-1]
        same = [one for one in problems if one["loc"][:-1] == place]
    reasons = dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in same)
    return ".".join(str(part) for part in place), "; or ".join(reasons)
