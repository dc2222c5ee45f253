"""Swap set: the answers on record that another version would change, by group, with the labels that are on record.

A swap-in was refused (class 1) and would be approved by the other version, a swap-out the reverse. The bad rate is the
share of class 1 among the rows with a label (N. Siddiqi, Intelligent Credit Scoring, Wiley, 2017, on swap sets).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pandas as pd

from prediction_log.answers import to_utc
from prediction_log.engine import open_existing
from prediction_log.window import LogWindow
from serve.audit.records import NO_ANSWERS, Records, Version, format_skipped, iter_records, parse_records
from serve.model.onnx_graph import Graph, Rows
from stepkit.errors import BadParameter
from stepkit.model.statistics import Interval, compute_rate
from stepkit.table.columns import Column, Columns
from stepkit.table.groups import iter_groups

LEVEL = 0.95
SWAP_IN, SWAP_OUT = "swap_in", "swap_out"


@dataclass
class Comparison:
    """Answers on record with those of another version.

    Attributes:
        table: n rows: request_id, row, time, model_version, recorded_probability, recorded_class, probability, class,
            label (NaN while unknown).
        groups: n rows: the columns by which the result is divided, described in `columns`.
        skipped: numbers of answers that the other version cannot score, by reason.
        versions: numbers of the compared answers by the version that gave them.
    """

    table: pd.DataFrame
    groups: pd.DataFrame
    columns: dict[str, Column]
    skipped: Counter[str]
    versions: Counter[Version]


@dataclass(frozen=True)
class Part:
    """Numbers of a group of n compared answers.

    Attributes:
        recorded: approval rate on record, `approved` that of the other version.
        swap_in, swap_out: numbers of rows; `swap_in_labels` and `swap_out_labels` those of them with a label.
        bad_in, bad_out: bad rates, NaN without labels.
    """

    label: str
    rows: int
    recorded: Interval
    approved: Interval
    swap_in: int
    swap_out: int
    swap_in_labels: int
    swap_out_labels: int
    bad_in: Interval
    bad_out: Interval


def compare_window(url: str, window: LogWindow, model: Graph, hidden: Collection[str]) -> Comparison:
    """Return the answers of a window with those of another version; `hidden` are the columns of serve.redact.

    Raises:
        BadParameter: the window has no answers, or none that the version can score.
        LogUnfit, LogUnavailable: the log cannot be read.
        ModelFailed: the version returns values other than probabilities.
    """
    parts, groups = [], []
    columns = list_group_columns(model.description)
    skipped, versions = Counter[str](), Counter[Version]()
    with open_existing(url, reads=True) as engine:
        for version, records in iter_records(engine, window, labels=True):
            rows, recorded, places, unusable = parse_records(model, records.features, hidden)
            skipped.update(unusable)
            if places:
                versions[version] += len(places)
                parts.append(score_records(model, version[1], records, rows, places))
                groups.append(pd.DataFrame({name: [row.get(name) for row in recorded] for name in columns}))
    if not parts and not skipped:
        raise BadParameter(NO_ANSWERS)
    if not parts:
        reasons = "; ".join(format_skipped(skipped))
        raise BadParameter(f"{model.name} version {model.version} can score none of these answers ({reasons}).")
    table, values = (pd.concat(frames, ignore_index=True) for frames in (parts, groups))
    return Comparison(table, values, columns, skipped, versions)


def list_group_columns(columns: Columns | None) -> dict[str, Column]:
    """Return the columns by which a result is divided: those with slices, and the protected ones."""
    described = columns.columns if columns else {}
    return {name: column for name, column in described.items() if column.slices or column.protected}


def score_records(model: Graph, version: str, records: Records, rows: Rows, places: list[int]) -> pd.DataFrame:
    """Return the answers at some places of a part with the scores of another version; see Comparison.table."""
    scores = model.score(rows)
    return pd.DataFrame(
        {
            "request_id": [records.request_id[place] for place in places],
            "row": [records.row[place] for place in places],
            "time": [to_utc(records.time[place]) for place in places],
            "model_version": version,
            "recorded_probability": records.probability[places],
            "recorded_class": records.predicted[places],
            "probability": scores.probability,
            "class": scores.predicted,
            "label": pd.Series([records.label[place] for place in places], dtype=float),
        }
    )


def measure_part(label: str, table: pd.DataFrame) -> Part:
    """Return the numbers of n compared answers; n may be 0."""
    was_refused, is_refused = table["recorded_class"] == 1, table["class"] == 1
    swapped = {SWAP_IN: table[was_refused & ~is_refused], SWAP_OUT: table[~was_refused & is_refused]}
    labels = {name: rows["label"].dropna() for name, rows in swapped.items()}
    return Part(
        label,
        len(table),
        compute_rate(int((~was_refused).sum()), len(table), LEVEL),
        compute_rate(int((~is_refused).sum()), len(table), LEVEL),
        len(swapped[SWAP_IN]),
        len(swapped[SWAP_OUT]),
        len(labels[SWAP_IN]),
        len(labels[SWAP_OUT]),
        *(compute_rate(int(known.sum()), len(known), LEVEL) for known in labels.values()),
    )


def iter_parts(comparison: Comparison) -> Iterator[tuple[str, list[Part]]]:
    """Yield (label of a column, its groups) for each column by which the result is divided."""
    for name, column in comparison.columns.items():
        groups = iter_groups(comparison.groups[name], column, column.bands)
        yield column.label or name, [measure_part(label, comparison.table[mask]) for _, label, mask in groups]
