"""page: draw the windows of a drift experiment over time, on one HTML page that works offline."""

from __future__ import annotations

import argparse
import html
import re
import webbrowser
from pathlib import Path
from shlex import quote
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from mlflow.entities import Run
from plotly.offline import get_plotlyjs

from drift import history
from drift.replay import get_experiment_id, get_watched_name
from stepkit import paths
from stepkit.errors import BadParameter
from stepkit.files import replace_file
from stepkit.model.bands import PSI_BANDS
from stepkit.settings.drift import GROUP_SIGNAL, STABILITY_SIGNALS
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.store import tracking

PAGE = "index.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
ALARM_COLOUR, LINE_COLOUR = "#c0392b", "#2c6fbb"
SCORE = "drift_score."
METRICS = [
    "drift_share", "alarm.drift_share", "reference_auc", "rows", "labelled",
    *(f"{prefix}.{name}" for name in ("estimated_auc", "realised_auc") for prefix in ("signal", "lower", "upper")),
    *(f"{prefix}.{name}" for name in STABILITY_SIGNALS for prefix in ("signal", "threshold", "alarm")),
    f"signal.{GROUP_SIGNAL}",
]  # fmt: skip
MAX_TICKS = 6
LAYOUT = {
    "margin": {"l": 60, "r": 20, "t": 30, "b": 60},
    "template": "plotly_white",
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0},
}


def build_table(runs: list[Run]) -> pd.DataFrame:
    """Return the tags and metrics of n windows (n rows), oldest first, with a column for each of METRICS."""
    windows = pd.DataFrame([{**run.data.tags, **run.data.metrics, "run_id": run.info.run_id} for run in runs])
    windows["until"] = pd.to_datetime(windows[history.TO], utc=True, format="ISO8601")
    return windows.reindex(columns=list(dict.fromkeys([*windows, *METRICS])))


def make_time_axis(windows: pd.DataFrame) -> dict[str, Any]:
    """Return an x axis with one place per window, so that a window has the same place in every chart."""
    ticks = windows.index[:: -(-len(windows) // MAX_TICKS)]
    labels = windows["until"][ticks].dt.strftime("%b %d<br>%H:%M")
    return {
        "title": "end of window (UTC)", "tickvals": list(ticks), "ticktext": list(labels), "ticks": "outside",
        "ticklen": 7, "range": [-0.5, len(windows) - 0.5], "zeroline": False,
    }  # fmt: skip


def draw_drift_share(windows: pd.DataFrame) -> go.Figure:
    """Draw the share of drifted columns."""
    line = go.Scatter(
        x=windows.index, y=windows["drift_share"], mode="lines+markers", line={"color": LINE_COLOUR}, cliponaxis=False,
        marker={"color": np.where(windows["alarm.drift_share"] == 1, ALARM_COLOUR, LINE_COLOUR), "size": 9},
        text=windows[history.TO] + "<br>" + windows[history.DECISION] + ": " + windows[history.REASON].map(html.escape),
        hovertemplate="%{y:.1%}<br>%{text}<extra></extra>",
    )  # fmt: skip
    return go.Figure(
        line, {"height": 280, "yaxis": {"title": "share of columns", "tickformat": ".0%", "rangemode": "tozero"}}
    )


def get_labels(windows: pd.DataFrame) -> dict[str, str]:
    """Return the names of columns and groups whose metrics have another name, by their tag."""
    tags = windows.filter(regex=f"^{re.escape(history.COLUMN)}")
    return {str(tag): str(name) for tag, name in tags.bfill().iloc[0].items()}


def draw_heat_map(windows: pd.DataFrame) -> go.Figure:
    """Draw the score of every column in every window."""
    scores = windows.filter(regex=f"^{re.escape(SCORE)}")
    names = [str(name).removeprefix(SCORE) for name in scores]
    labels = get_labels(windows)
    heat = go.Heatmap(
        x=windows.index, y=[html.escape(labels.get(history.COLUMN + name, name)) for name in names], z=scores.T,
        zmin=0, zmax=0.2, colorscale=[[0, "#f4f7fb"], [0.3, "#f5c06b"], [1, ALARM_COLOUR]],
        colorbar={"title": {"text": "distance", "side": "right"}, "thickness": 12, "nticks": 5},
        customdata=np.tile(windows[history.TO], (len(names), 1)),
        hovertemplate="%{y}<br>%{customdata}<br>distance %{z:.3f}<extra></extra>",
    )  # fmt: skip
    return go.Figure(heat, {"height": 150 + 17 * len(names), "yaxis": {"autorange": "reversed", "dtick": 1}})


def draw_performance(windows: pd.DataFrame) -> go.Figure:
    """Draw the estimated and the realised ROC AUC with their intervals, and the AUC of the reference."""
    figure = go.Figure(layout={"height": 340, "yaxis": {"title": "ROC AUC"}})
    for name, colour in (("estimated_auc", LINE_COLOUR), ("realised_auc", "#1e8449")):
        judged = windows.dropna(subset=[f"signal.{name}"])
        value, lower, upper = (judged[f"{prefix}.{name}"] for prefix in ("signal", "lower", "upper"))
        figure.add_scatter(
            x=judged.index, y=value, name=name.removesuffix("_auc"), mode="lines+markers", line={"color": colour},
            error_y={"array": upper - value, "arrayminus": value - lower, "color": colour, "thickness": 1},
        )  # fmt: skip
    reference = {"name": "reference", "mode": "lines", "line": {"dash": "dot", "color": "#888"}}
    return figure.add_scatter(x=windows.index, y=windows["reference_auc"], **reference)


def draw_stability(windows: pd.DataFrame) -> go.Figure:
    """Draw the stability index of the score and that of the worst column, their thresholds and the customary limits."""
    figure = go.Figure(layout={"height": 340, "yaxis": {"title": "stability index", "rangemode": "tozero"}})
    for name, label, colour in zip(STABILITY_SIGNALS, ("score", "worst column"), (LINE_COLOUR, "#1e8449"), strict=True):
        judged = windows.dropna(subset=[f"signal.{name}"])
        figure.add_scatter(
            x=judged.index, y=judged[f"signal.{name}"], name=label, mode="lines+markers", line={"color": colour},
            marker={"color": np.where(judged[f"alarm.{name}"] == 1, ALARM_COLOUR, colour), "size": 9}, cliponaxis=False,
        )  # fmt: skip
        figure.add_scatter(
            x=judged.index, y=judged[f"threshold.{name}"], name=f"threshold, {label}", mode="lines",
            line={"dash": "dash", "color": colour, "width": 1},
        )  # fmt: skip
    for limit, _ in PSI_BANDS[:-1]:
        figure.add_hline(
            limit, line={"dash": "dot", "color": "#888", "width": 1}, annotation_text=f"{limit:g}, by custom",
            annotation_position="top left", annotation_font={"size": 10, "color": "#888"},
        )  # fmt: skip
    return figure


def draw_groups(windows: pd.DataFrame) -> go.Figure:
    """Draw the approval rate of each protected group."""
    figure = go.Figure(layout={"height": 340, "yaxis": {"title": "approved", "tickformat": ".0%"}})
    labels = get_labels(windows)
    for metric in windows.filter(regex=f"^{re.escape(history.APPROVAL)}"):
        name = str(metric).removeprefix(history.APPROVAL)
        label = html.escape(labels.get(history.COLUMN + name, name))
        figure.add_scatter(x=windows.index, y=windows[metric], name=label, mode="lines+markers", cliponaxis=False)
    return figure


def draw_volume(windows: pd.DataFrame) -> go.Figure:
    """Draw the rows of every window, by model version, and the labelled rows."""
    figure = go.Figure(layout={"height": 280, "yaxis": {"title": "rows", "rangemode": "tozero"}})
    for version, version_windows in windows.groupby(history.MODEL_VERSION, sort=False):
        figure.add_bar(
            x=version_windows.index, y=version_windows["rows"], name=f"version {version!s}" if version else "no model"
        )
    labelled = {"name": "labelled", "mode": "markers", "marker": {"color": "#222"}, "cliponaxis": False}
    return figure.add_scatter(x=windows.index, y=windows["labelled"], **labelled)


PARTS = (
    (
        "Drifted columns",
        "Share of the columns that differ from the reference. Red: signal drift_share alarms.",
        draw_drift_share,
        "drift_share",
    ),
    (
        "Drift per column",
        "Distance of each column from the reference: 0 means the same distribution, 1 means no overlap.",
        draw_heat_map,
        "drift_share",
    ),
    (
        "Performance",
        "ROC AUC of the model: estimated without labels, and realised on the labelled rows. Bars are 95 % intervals.",
        draw_performance,
        "reference_auc",
    ),
    (
        "Stability index",
        "PSI of the score, and CSI of the worst column, against the reference. Red: the index is above its threshold, "
        "which takes the number of rows into account.",
        draw_stability,
        "signal.csi",
    ),
    (
        "Approval rate by protected group",
        "Share of class 0 among the answers. The signal group_approval alarms if a group is approved less than before, "
        "compared with the others.",
        draw_groups,
        f"signal.{GROUP_SIGNAL}",
    ),
    ("Rows per window", "All rows by model version, and the labelled rows.", draw_volume, "rows"),
)
"""Title, caption, chart, and the metric that it needs from at least one window."""


def render_page(name: str, runs: list[Run], report: Path | None) -> str:
    """Return the HTML page about the windows of a model.

    Args:
        name: the model.
        runs: one run for each window, oldest first.
        report: the newest Evidently report, next to the page.
    """
    windows = build_table(runs)
    layout = {**LAYOUT, "xaxis": make_time_axis(windows)}
    options = {"full_html": False, "include_plotlyjs": False, "config": {"displayModeBar": False, "responsive": True}}
    parts = [
        (title, about, draw(windows).update_layout(layout).to_html(**options))
        for title, about, draw, metric in PARTS
        if windows[metric].notna().any()
    ]
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    newest_first = windows[::-1].to_dict("records")
    link = report.name if report else ""
    return str(template.render(name=name, plotly=get_plotlyjs(), parts=parts, windows=newest_first, report=link))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = Parser(prog="page", description=__doc__)
    flags.add_argument("--experiment", default="drift", help="MLflow experiment that contains the windows")
    flags.add_argument("--model_name", default="", help="registered model; empty: as in config.yaml")
    flags.add_argument("--reference", default="", help="as for drift: models:/NAME@ALIAS also names the model")
    flags.add_argument("--output", default="", help="file to write; empty: drift/evidently_reports/MODEL/index.html")
    flags.add_argument("--open", default="false", choices=["true", "false"], help="true: open the page in a browser")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    with exit_on_error():
        name = get_watched_name(args.model_name, args.reference)
        path = write_page(args.experiment, name, Path(paths.resolve_path(args.output)) if args.output else None)
    print(f"wrote {path}", flush=True)
    if args.open == "true":
        webbrowser.open(path.as_uri())


def write_page(experiment: str, name: str, path: Path | None) -> Path:
    """Write the page about the windows of a model, and return its path.

    Args:
        experiment: name of the experiment.
        name: the model.
        path: file to write; None: index.html in the folder of the model.

    Raises:
        BadParameter: the experiment does not exist, or has no window of the model.
    """
    tracking.connect()
    runs = history.fetch_runs(get_experiment_id(experiment), name)
    if not runs:
        command = f"mlflow run ./drift --env-manager local --experiment-name {quote(experiment)}"
        model = f"model_name={'none' if name == history.NO_MODEL else name}"
        raise BadParameter(f"{name}: no window in experiment '{experiment}'. Compare one: {command} -P {quote(model)}")
    path = path or history.get_page_folder(name) / PAGE
    report = path.with_name(history.REPORT)
    text = render_page(name, runs, report if report.is_file() else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
