"""CSV body -> table, read in the same way as a CSV file in training and in batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from io import StringIO
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from serve.http.refusals import make_bad_request
from serve.model.servable import Servable
from stepkit.table.fileformats import MISSING, iter_rows, iter_uneven_rows


def read_csv_table(body: bytes, model: Servable) -> pd.DataFrame:
    """Return a CSV body as a table; in a text column only the empty text is a missing value, as in training.

    Raises:
        Refusal: (400) a row has the wrong length, or a value is not a number.
        MlflowException: a column of the model occurs twice.
        ValueError: the body is not CSV in UTF-8.
    """
    text = body.decode("utf-8-sig")
    if "\0" in text:  # pandas would cut the value off there
        raise make_bad_request("body: contains NUL characters. Remove them.", "body")
    for row in iter_uneven_rows(StringIO(text, newline="")):
        raise make_bad_request(f"{row}. Correct the line, or quote values that contain commas.", "body")
    _, header = next(iter_rows(StringIO(text, newline="")), (0, []))
    verify_unique_columns(header, model)
    dtypes: dict[Hashable, str] = {name: "string" if name in model.text else "float64" for name in model.names}
    gaps = {name: [""] if name in model.text else MISSING for name in model.names}
    try:
        return pd.read_csv(
            StringIO(text, newline=""), dtype=dtypes, na_values=gaps, keep_default_na=False, index_col=False,
            float_precision="round_trip",
        )  # fmt: skip
    except ValueError as error:
        for line, name in _iter_unfit_values(text, model):
            raise make_bad_request(f"line {line}, column {name}: not a number. Correct the value.", name) from error
        raise


def verify_unique_columns(columns: list[str], model: Servable) -> None:
    """Raise MlflowException if a column of the model occurs twice; MLflow's own message would not name it."""
    if repeated := {name for name in model.names if columns.count(name) > 1}:
        message = f"column '{min(repeated)}' occurs twice"
        raise MlflowException(message, INVALID_PARAMETER_VALUE)


def _iter_unfit_values(text: str, model: Servable) -> Iterator[tuple[int, str]]:
    """Yield line and column of each value in a numeric column that is not a number."""
    rows = iter_rows(StringIO(text, newline=""))
    _, header = next(rows, (0, []))
    for line, row in rows:
        for name, value in zip(header, row, strict=False):
            # Python reads 4_1 as a number, but pandas does not.
            if name in model.numeric and value not in MISSING and ("_" in value or not is_number(value)):
                yield line, name


def is_number(value: Any) -> bool:
    """Return True for null, a number, or a text that Python reads as a number."""
    try:
        float(value if value is not None else "nan")
    except (ValueError, TypeError, OverflowError):
        return False
    return True
