"""How a metric of a sweep's jobs depends on what was swept, as a picture."""

from __future__ import annotations

import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stepkit.table.tables import add_column

SIZE = (6.0, 4.8)

rcParams["text.parse_math"] = False  # swept values are shown as they are, dollar signs included


def plot_sweep(settings: pd.DataFrame, metric: pd.Series, title: str) -> Figure:
    """Show how a metric of (n,) jobs depends on their (n x k) settings: points for one setting, else lines.

    With several settings, one upright axis each and the metric last (parallel coordinates), a line per job,
    coloured by the metric.
    """
    figure = Figure(figsize=(max(SIZE[0], 1.6 * (settings.shape[1] + 1)), SIZE[1]))
    axes = figure.subplots()
    shown = add_column(settings.apply(_to_axis_values), str(metric.name), metric)
    if settings.shape[1] == 1:
        axes.plot(shown.iloc[:, 0], metric, "o")
        axes.set(title=title, xlabel=settings.columns[0], ylabel=metric.name)
        if pd.to_numeric(settings.iloc[:, 0], errors="coerce").isna().any():
            names = sorted(set(settings.iloc[:, 0].astype(str)))
            axes.set_xticks(range(len(names)), names)
        return figure
    _draw_lines(axes, shown, settings)
    axes.set_title(title)
    return figure


def _to_axis_values(values: pd.Series) -> pd.Series:
    """Numbers as they are, anything else by its place among the sorted values."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().all() else values.astype(str).astype("category").cat.codes


def _draw_lines(axes: Axes, shown: pd.DataFrame, settings: pd.DataFrame) -> None:
    """Lines over upright axes, each scaled to its own smallest and largest value."""
    low, high = shown.min(), shown.max()
    scaled = (shown - low) / (high - low).where(high > low, 1.0)
    colours = colormaps["viridis"](scaled.iloc[:, -1])
    places = range(shown.shape[1])
    for (_, line), colour in zip(scaled.iterrows(), colours, strict=True):  # the last ones lie on top
        axes.plot(places, line, "o-", color=colour, alpha=0.8)
    for place, name in enumerate(shown.columns):
        axes.axvline(place, color="grey", lw=0.8)
        for value, text in _select_labels(shown[name], settings.get(name)).items():
            height = (value - low[name]) / (high[name] - low[name] or 1.0)
            axes.annotate(text, (place, height), (8, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xticks(places, [str(name) for name in shown.columns])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.margins(x=0.12)


def _select_labels(values: pd.Series, given: pd.Series | None, most: int = 6) -> dict[float, str]:
    """What is written beside an axis: each value if there are few, else the smallest and the largest."""
    texts = dict(zip(values, (values.map("{:.4g}".format) if given is None else given.astype(str)), strict=True))
    kept = sorted(texts) if len(texts) <= most else [min(texts), max(texts)]
    return {value: texts[value] for value in kept}
