"""Plot of a sweep: how the metric of its jobs depends on the swept settings."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.sweep.job import shorten_value
from stepkit.table.tables import add_column

SIZE = (6.4, 4.8)
INCHES_PER_AXIS = 2.0
BAND_WIDTH = 0.4
"""Width of an axis with its labels, as a share of the distance between two axes."""

UNUSED = "unused"
"""Label of a setting that a job does not use."""

MAX_LABELS, MAX_LABEL_LENGTH = 6, 11
MIN_LABEL_DISTANCE = 0.05
"""Least distance between two labels of an axis, as a share of its height."""

rcParams["text.parse_math"] = False  # swept values are shown literally, dollar signs included


def plot_sweep(settings: pd.DataFrame, metric: pd.Series) -> Figure:
    """Plot a metric of (n,) jobs against their (n x k) settings.

    One setting gives a point per job. Several settings give a line per job across one upright axis per setting, with
    the metric on the last one (parallel coordinates).

    Args:
        settings: swept values as texts, "" for a setting that a job does not use; the columns are the names of the
            settings.
        metric: metric of each job; its name labels the axis.
    """
    settings = settings.replace("", UNUSED)
    figure = Figure(figsize=(max(SIZE[0], INCHES_PER_AXIS * (settings.shape[1] + 1)), SIZE[1]), layout="constrained")
    axes = figure.subplots()
    positions = add_column(settings.apply(_to_axis_values), str(metric.name), metric)
    label = str(metric.name)
    title = label[:1].upper() + label[1:]
    if settings.shape[1] == 1:
        name = str(settings.columns[0])
        axes.plot(positions.iloc[:, 0], metric, "o")
        axes.set(title=f"{title} by {name}: one point per job", xlabel=name, ylabel=label)
        axes.grid(alpha=0.3)
        if pd.to_numeric(settings.iloc[:, 0], errors="coerce").isna().any():
            values = _sort_values(settings.iloc[:, 0])
            axes.set_xticks(range(len(values)), values, rotation=30 if len(values) > MAX_LABELS else 0)
        return figure
    _draw_lines(axes, positions, settings)
    axes.set_title(f"{title} by setting: one line per job", pad=16)
    return figure


def _to_axis_values(values: pd.Series) -> pd.Series:
    """Return numbers unchanged, and other values as positions in their sorted order."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all():
        return numbers
    return values.map({value: place for place, value in enumerate(_sort_values(values))})


def _sort_values(values: pd.Series) -> list[str]:
    """Return the distinct values: unused first, then numbers by size, then other texts."""
    numbers = pd.to_numeric(values, errors="coerce")
    order = pd.DataFrame({"value": values, "used": values != UNUSED, "number": numbers}).drop_duplicates()
    return list(order.sort_values(["used", "number", "value"])["value"])


def _draw_lines(axes: Axes, positions: pd.DataFrame, settings: pd.DataFrame) -> None:
    """Draw a line per job between upright bands, each scaled to its own smallest and largest value.

    The labels are inside the bands, where no line runs.
    """
    low, high = positions.min(), positions.max()
    scaled = (positions - low) / (high - low).where(high > low, 1.0)
    colours = colormaps["viridis"](scaled.iloc[:, -1] * 0.9)  # the brightest colours are hard to see on white
    for (_, heights), colour in zip(scaled.iterrows(), colours, strict=True):  # The caller sorts: best job on top.
        xs, ys = list[float](), list[float]()
        for place, (start, end) in enumerate(pairwise(heights)):
            xs += [place + BAND_WIDTH, place + 1, math.nan]
            ys += [start, end, math.nan]
        axes.plot(xs, ys, "o-", color=colour, alpha=0.8, markersize=4)
    for place, name in enumerate(positions.columns):
        axes.axvspan(place, place + BAND_WIDTH, color="0.93", lw=0)
        for height, text in _select_labels(scaled[name], positions[name], settings.get(name)).items():
            axes.text(place + BAND_WIDTH / 2, height, text, ha="center", va="center", fontsize=8)
    axes.set_xticks([place + BAND_WIDTH / 2 for place in range(positions.shape[1])], list(positions.columns))
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _select_labels(heights: pd.Series, numbers: pd.Series, values: pd.Series | None) -> dict[float, str]:
    """Return the labels of an axis by height: the smallest and the largest value, and others if there is space."""
    texts = dict(zip(heights, numbers.map("{:.4g}".format) if values is None else values.astype(str), strict=True))
    labels: dict[float, str] = {}
    for height in [min(texts), max(texts), *(sorted(texts) if len(texts) <= MAX_LABELS else [])]:
        if all(abs(height - labelled) >= MIN_LABEL_DISTANCE for labelled in labels):
            text = shorten_value(texts[height])
            labels[height] = text if len(text) <= MAX_LABEL_LENGTH else f"{text[: MAX_LABEL_LENGTH - 1]}…"
    return labels
