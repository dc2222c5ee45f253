"""page: the windows of a drift experiment -> one HTML page over time, which needs no server and no network."""

from __future__ import annotations

import argparse
import html
import re
import webbrowser
from pathlib import Path
from shlex import quote

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
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.store import tracking

PAGE = "index.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
ALARM, CALM = "#c0392b", "#2c6fbb"
SCORE = "drift_score."
METRICS = [
    "drift_share", "alarm.drift_share", "reference_auc", "rows", "labelled",
    *(f"{end}.{name}" for name in ("estimated_auc", "realised_auc") for end in ("signal", "lower", "upper")),
]  # fmt: skip
CATEGORY_AXIS = {"xaxis": {"type": "category", "showticklabels": False}}
LAYOUT = {
    "margin": {"l": 60, "r": 20, "t": 30, "b": 40},
    "template": "plotly_white",
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0},
}


def build_table(runs: list[Run]) -> pd.DataFrame:
    """Return the tags and metrics of n windows, oldest first; a metric that no window has is missing in all."""
    windows = pd.DataFrame([{**run.data.tags, **run.data.metrics, "run_id": run.info.run_id} for run in runs])
    return windows.reindex(columns=list(dict.fromkeys([*windows, *METRICS])))


def draw_drift_share(windows: pd.DataFrame) -> go.Figure:
    line = go.Scatter(
        x=windows[history.TO], y=windows["drift_share"], mode="lines+markers", line={"color": CALM}, cliponaxis=False,
        marker={"color": np.where(windows["alarm.drift_share"] == 1, ALARM, CALM), "size": 9},
        text=windows[history.DECISION] + ": " + windows[history.REASON].map(html.escape),
        hovertemplate="%{x}<br>%{y:.1%}<br>%{text}<extra></extra>",
    )  # fmt: skip
    return go.Figure(line, {"height": 260, "yaxis": {"tickformat": ".0%", "rangemode": "tozero"}})


def draw_heat_map(windows: pd.DataFrame) -> go.Figure:
    scores = windows.filter(regex=f"^{re.escape(SCORE)}")
    names = [str(name).removeprefix(SCORE) for name in scores]
    tags = windows.filter(regex=f"^{re.escape(history.COLUMN)}").bfill().iloc[0]
    heat = go.Heatmap(
        x=windows[history.TO], y=[html.escape(tags.get(history.COLUMN + name, name)) for name in names], z=scores.T,
        zmin=0, zmax=0.2, colorscale=[[0, "#f4f7fb"], [0.3, "#f5c06b"], [1, ALARM]],
        hovertemplate="%{y}<br>%{x}<br>moved %{z:.3f}<extra></extra>",
    )  # fmt: skip
    return go.Figure(
        heat, {"height": 70 + 17 * len(names), "yaxis": {"autorange": "reversed", "dtick": 1}, **CATEGORY_AXIS}
    )


def draw_performance(windows: pd.DataFrame) -> go.Figure:
    figure = go.Figure(layout={"height": 320})
    for name, colour in (("estimated_auc", CALM), ("realised_auc", "#1e8449")):
        known = windows.dropna(subset=[f"signal.{name}"])
        value, lower, upper = (known[f"{end}.{name}"] for end in ("signal", "lower", "upper"))
        figure.add_scatter(
            x=known[history.TO], y=value, name=name.replace("_", " "), mode="lines+markers", line={"color": colour},
            error_y={"array": upper - value, "arrayminus": value - lower, "color": colour, "thickness": 1},
        )  # fmt: skip
    reference = {"name": "reference", "line": {"dash": "dot", "color": "#888"}}
    return figure.add_scatter(x=windows[history.TO], y=windows["reference_auc"], **reference)


def draw_volume(windows: pd.DataFrame) -> go.Figure:
    figure = go.Figure(layout={"height": 260, **CATEGORY_AXIS})
    for version, of_version in windows.groupby(history.MODEL_VERSION, sort=False):
        figure.add_bar(x=of_version[history.TO], y=of_version["rows"], name=f"version {str(version) or '-'}")
    labelled = {"name": "labelled", "mode": "markers", "marker": {"color": "#222"}}
    return figure.add_scatter(x=windows[history.TO], y=windows["labelled"], **labelled)


PARTS = (
    ("Drift share", "Share of the columns whose values are no longer those of the training data.", draw_drift_share),
    ("Columns", "How far each column has moved: the share of rows that would have to move back.", draw_heat_map),
    (
        "Performance",
        "ROC AUC: estimated without labels, realised where labels are known; the bars hold 95 %.",
        draw_performance,
    ),
    ("Volume", "Rows of each window, and how many of them have a label; coloured by model version.", draw_volume),
)


def render_page(name: str, runs: list[Run], report: Path | None) -> str:
    """Return the page about the windows of a model, oldest first."""
    windows = build_table(runs)
    options = {"full_html": False, "include_plotlyjs": False, "config": {"displayModeBar": False}}
    parts = [(title, about, draw(windows).update_layout(LAYOUT).to_html(**options)) for title, about, draw in PARTS]
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    newest_first = windows[::-1].to_dict("records")
    link = report.name if report else ""
    return str(template.render(name=name, plotly=get_plotlyjs(), parts=parts, windows=newest_first, report=link))


def make_parser() -> argparse.ArgumentParser:
    flags = Parser(prog="page", description=__doc__)
    flags.add_argument("--experiment", default="drift", help="name of the experiment with the windows")
    flags.add_argument("--model_name", default="", help="registered model; empty: as in config.yaml")
    flags.add_argument("--reference", default="", help="as for drift: models:/NAME@ALIAS names the model too")
    flags.add_argument("--output", default="", help="file to write; empty: drift/evidently_reports/MODEL/index.html")
    flags.add_argument("--open", default="false", choices=["true", "false"], help="true: show it in a browser")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with exit_on_error():
        name = get_watched_name(args.model_name, args.reference)
        path = write_page(args.experiment, name, Path(paths.resolve_path(args.output)) if args.output else None)
    print(f"wrote {path}", flush=True)
    if args.open == "true":
        webbrowser.open(path.as_uri())


def write_page(experiment: str, name: str, path: Path | None) -> Path:
    """Write the page of a model's windows in an experiment; None means the model's own page in this checkout.

    Raises:
        BadParameter: no such experiment, or no window in it.
    """
    tracking.connect()
    runs = history.fetch_runs(get_experiment_id(experiment), name)
    if not runs:
        command = f"mlflow run ./drift --env-manager local --experiment-name {quote(experiment)}"
        model = f"model_name={'none' if name == history.NO_MODEL else name}"
        raise BadParameter(f"experiment '{experiment}' has no window of {name}. Make one: {command} -P {quote(model)}")
    path = path or history.get_page_folder(name) / PAGE
    report = path.with_name(history.REPORT)
    text = render_page(name, runs, report if report.is_file() else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
