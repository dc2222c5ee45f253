"""Drawing of a dashboard from the results of its queries, with the panels, titles and data of Grafana."""

from __future__ import annotations

import csv
import io
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure

from tests.stack.dashboards import dashboards, expanded
from tests.stack.stack import Stack

PROMETHEUS = "http://127.0.0.1:9090"
INCHES_A_CELL = (0.75, 0.42)
Series = dict[str, list[tuple[datetime, float]]]


def draw(stack: Stack, name: str, target: Path, seconds: int) -> None:
    """Write a picture of a dashboard with the data of the last `seconds`."""
    dashboard = dashboards()[name]
    values = {variable["name"]: variable["current"]["value"] for variable in dashboard["templating"]["list"]}
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = Figure((24 * INCHES_A_CELL[0], rows * INCHES_A_CELL[1]))
    figure.suptitle(f"{dashboard['title']}: {dashboard['description']}", y=0.995)
    grid = figure.add_gridspec(rows, 24, hspace=3.0, wspace=3.0, left=0.03, right=0.99, top=0.95, bottom=0.02)
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        axes = figure.add_subplot(grid[at["y"] : at["y"] + at["h"] - 1, at["x"] : at["x"] + at["w"]])
        axes.set_title(panel["title"], fontsize=10, loc="left")
        _fill(axes, stack, panel, values, seconds)
    figure.savefig(target, dpi=70)


def _fill(axes: Axes, stack: Stack, panel: dict[str, Any], values: dict[str, str], seconds: int) -> None:
    end = int(time.time())
    series: Series = {}
    for target in panel["targets"]:
        if "expr" in target:
            series |= _from_prometheus(stack, target, end - seconds, end)
            continue
        statement = target["rawSql"]
        for name, value in values.items():
            statement = statement.replace(f"${{{name}}}", value)
        table = _from_postgres(stack, target["datasource"]["uid"], expanded(statement, end - seconds, end + 60))
        if panel["type"] == "table":
            _write_table(axes, table)
            return
        series |= _as_series(table)
    if panel["type"] == "stat":
        _write_last(axes, series, named=panel["options"]["textMode"] == "name")
    else:
        _plot(axes, series)
        # The point of an hour is at its beginning.
        begin = min([end - seconds, *(int(points[0][0].timestamp()) for points in series.values() if points)])
        axes.set_xlim(_day(begin - 30), _day(end + 30))


def _from_prometheus(stack: Stack, target: dict[str, Any], start: int, end: int) -> Series:
    parameters = {"query": target["expr"], "start": start, "end": end, "step": max(5, (end - start) // 200)}
    results = stack.get(f"{PROMETHEUS}/api/v1/query_range", params=parameters).json()["data"]["result"]
    return {
        _legend(target["legendFormat"], result["metric"]): [(datetime.fromtimestamp(at, UTC), float(value))
                                                         for at, value in result["values"] if value != "NaN"]
        for result in results
    }  # fmt: skip


def _legend(text: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _from_postgres(stack: Stack, database: str, statement: str) -> list[dict[str, str]]:
    command = ["psql", "-X", "--csv", "-c", statement, f"postgresql://grafana@postgres/{database}"]
    output = stack.run("postgres", command, PGPASSWORD=stack.secrets["GRAFANA_DB_PASSWORD"]).stdout
    return list(csv.DictReader(io.StringIO(output)))


def _as_series(table: list[dict[str, str]]) -> Series:
    """Return series from rows with `time`, and either `metric` and `value` or a column per series."""
    series: Series = defaultdict(list)
    for row in table:
        at = _moment(row.pop("time"))
        pairs = [(row["metric"], row["value"])] if "metric" in row else list(row.items())
        for name, value in pairs:
            series[name].append((at, float(value)))
    return series


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(float(text), UTC) if text.replace(".", "").isdigit() else datetime.fromisoformat(text)


def _write_last(axes: Axes, series: Series, named: bool) -> None:
    last = [name if named else f"{points[-1][1]:.4g}  {name}" for name, points in series.items() if points]
    axes.text(0.5, 0.5, "\n".join(last) or "no data", ha="center", va="center", fontsize=16)
    axes.set_axis_off()


def _plot(axes: Axes, series: Series) -> None:
    for name, points in sorted(series.items()):
        values = np.array([value for _, value in points])
        axes.plot(np.array([at for at, _ in points]), values, marker=".", label=name, linewidth=1.5)
    axes.xaxis_date(UTC)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M", UTC))  # type: ignore[no-untyped-call]  # as date2num
    axes.tick_params(labelsize=7)
    if any(points for points in series.values()):
        axes.legend(fontsize=6, ncols=3, loc="upper left")
    else:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, color="gray")


def _day(seconds: int) -> float:
    return float(date2num(datetime.fromtimestamp(seconds, UTC)))  # type: ignore[no-untyped-call]  # matplotlib has no type for it


def _write_table(axes: Axes, table: list[dict[str, str]]) -> None:
    axes.set_axis_off()
    lines = ["   ".join(table[0])] if table else ["no data"]
    lines += ["   ".join(value[:40] for value in row.values()) for row in table[:8]]
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=8, family="monospace")
