"""page: the windows of a drift experiment -> one HTML page over time, which needs no server and no network."""

from __future__ import annotations

import argparse
import html
import webbrowser
from pathlib import Path
from shlex import quote
from typing import Any

import plotly.graph_objects as go
from mlflow import MlflowClient
from mlflow.entities import Run
from plotly.offline import get_plotlyjs

from drift import history
from drift.replay import experiment_id, watched_name
from stepkit import paths
from stepkit.errors import BadParameter
from stepkit.files import replacing
from stepkit.step.exit import one_message
from stepkit.step.flags import Parser
from stepkit.store import tracking

PAGE = "index.html"
ALARM, CALM = "#c0392b", "#2c6fbb"
PLAIN = {"displayModeBar": False}
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222}
h1{font-size:1.5rem;margin-bottom:.2rem} h2{font-size:1.1rem;margin:1.6rem 0 .2rem}
p{margin:.3rem 0;color:#555} table{border-collapse:collapse;width:100%;font-size:13px;margin-top:.5rem}
td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}
.alert{color:#b9770e;font-weight:600}.retrain{color:#c0392b;font-weight:600}
"""


def figures_of(runs: list[Run]) -> list[tuple[str, str, go.Figure]]:
    """Title, explanation and figure of each part of the page, from n windows, oldest first."""
    return [
        (
            "Drift share",
            "Share of the columns whose values are no longer those of the training data.",
            drift_share(runs),
        ),
        ("Columns", "How far each column has moved: the share of rows that would have to move back.", heat_map(runs)),
        (
            "Performance",
            "ROC AUC: estimated without labels, realised where labels are known; the bars hold 95 %.",
            performance(runs),
        ),
        ("Volume", "Rows of each window, and how many of them have a label; coloured by model version.", volume(runs)),
    ]


def times(runs: list[Run]) -> list[str]:
    return [run.data.tags[history.TO] for run in runs]


def series(runs: list[Run], metric: str) -> list[float | None]:
    return [run.data.metrics.get(metric) for run in runs]


def drift_share(runs: list[Run]) -> go.Figure:
    colours = [ALARM if run.data.metrics.get("alarm.drift_share") else CALM for run in runs]
    marks = {"color": colours, "size": 9}
    texts = [f"{run.data.tags[history.DECISION]}: {html.escape(run.data.tags[history.REASON])}" for run in runs]
    line = go.Scatter(
        x=times(runs), y=series(runs, "drift_share"), text=texts, mode="lines+markers", marker=marks,
        line={"color": CALM}, cliponaxis=False, hovertemplate="%{x}<br>%{y:.1%}<br>%{text}<extra></extra>",
    )  # fmt: skip
    return _styled(go.Figure(line), 260).update_yaxes(tickformat=".0%", rangemode="tozero")


def heat_map(runs: list[Run]) -> go.Figure:
    prefix = "drift_score."
    names = list(
        dict.fromkeys(key.removeprefix(prefix) for run in runs for key in run.data.metrics if key.startswith(prefix))
    )
    values = [series(runs, prefix + name) for name in names]
    own = {key: text for run in runs for key, text in run.data.tags.items() if key.startswith(history.COLUMN)}
    shown = [html.escape(own.get(history.COLUMN + name, name)) for name in names]
    scale = [[0, "#f4f7fb"], [0.3, "#f5c06b"], [1, ALARM]]
    heat = go.Heatmap(
        x=times(runs), y=shown, z=values, zmin=0, zmax=0.2, colorscale=scale,
        hovertemplate="%{y}<br>%{x}<br>moved %{z:.3f}<extra></extra>",
    )  # fmt: skip
    figure = _styled(go.Figure(heat), 40 + 17 * len(names), bottom=10)
    return figure.update_yaxes(autorange="reversed", dtick=1).update_xaxes(type="category", showticklabels=False)


def performance(runs: list[Run]) -> go.Figure:
    figure = go.Figure()
    for name, colour in (("estimated_auc", CALM), ("realised_auc", "#1e8449")):
        kept = [run for run in runs if f"signal.{name}" in run.data.metrics]
        errors = {
            "type": "data", "symmetric": False, "color": colour, "thickness": 1,
            "array": [run.data.metrics[f"upper.{name}"] - run.data.metrics[f"signal.{name}"] for run in kept],
            "arrayminus": [run.data.metrics[f"signal.{name}"] - run.data.metrics[f"lower.{name}"] for run in kept],
        }  # fmt: skip
        figure.add_scatter(
            x=times(kept), y=series(kept, f"signal.{name}"), error_y=errors, name=name.replace("_", " "),
            mode="lines+markers", line={"color": colour},
        )  # fmt: skip
    figure.add_scatter(
        x=times(runs), y=series(runs, "reference_auc"), name="reference", line={"dash": "dot", "color": "#888"}
    )
    return _styled(figure, 320)


def volume(runs: list[Run]) -> go.Figure:
    figure = go.Figure()
    versions = sorted({run.data.tags[history.MODEL_VERSION] for run in runs}, key=lambda text: (len(text), text))
    for version in versions:
        of_version = [run for run in runs if run.data.tags[history.MODEL_VERSION] == version]
        figure.add_bar(x=times(of_version), y=series(of_version, "rows"), name=f"version {version or '-'}")
    figure.add_scatter(
        x=times(runs), y=series(runs, "labelled"), name="labelled", mode="markers", marker={"color": "#222"}
    )
    return _styled(figure, 230, bottom=10).update_xaxes(type="category", showticklabels=False)


def _styled(figure: go.Figure, height: int, bottom: int = 40) -> go.Figure:
    return figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": bottom},
        template="plotly_white",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0},
    )


def page_of(name: str, runs: list[Run], report: Path | None) -> str:
    """Return the page about the windows of a model, oldest first."""
    parts = [
        f"<h2>{title}</h2><p>{about}</p>{figure.to_html(full_html=False, include_plotlyjs=False, config=PLAIN)}"
        for title, about, figure in figures_of(runs)
    ]
    link = f' <a href="{report.name}">The newest Evidently report</a>.' if report else ""
    last = runs[-1].data.tags
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift of {html.escape(name)}</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        f"<h1>Drift of {html.escape(name)}</h1>"
        f"<p>{len(runs)} windows. The newest: {html.escape(last[history.TO])}, version "
        f"{html.escape(last[history.MODEL_VERSION])}, {html.escape(last[history.DECISION])} "
        f"({html.escape(last[history.REASON])}).{link}</p>{''.join(parts)}<h2>Windows</h2>{_table(runs)}</body></html>"
    )


def _table(runs: list[Run]) -> str:
    heads = ("until", "rows", "version", "status", "decision", "reason", "run")
    rows = "".join(_row(run.data.tags, run.info.run_id) for run in reversed(runs))
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"


def _row(tags: dict[str, Any], run_id: str) -> str:
    names = (history.TO, history.ROWS, history.MODEL_VERSION, history.STATUS, history.DECISION, history.REASON)
    cells = [html.escape(str(tags[name])) for name in names] + [run_id[:8]]
    action = html.escape(tags[history.DECISION])
    return "<tr>" + "".join(f'<td class="{action if cell == action else ""}">{cell}</td>' for cell in cells) + "</tr>"


def parser() -> argparse.ArgumentParser:
    flags = Parser(prog="page", description=__doc__)
    flags.add_argument("--experiment", default="drift", help="name of the experiment with the windows")
    flags.add_argument("--model_name", default="", help="registered model; empty: as in config.yaml")
    flags.add_argument("--reference", default="", help="as for drift: models:/NAME@ALIAS names the model too")
    flags.add_argument("--output", default="", help="file to write; empty: drift/evidently_reports/MODEL/index.html")
    flags.add_argument("--open", default="false", choices=["true", "false"], help="true: show it in a browser")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with one_message():
        name = watched_name(args.model_name, args.reference)
        path = write(args.experiment, name, Path(paths.from_root(args.output)) if args.output else None)
    print(f"wrote {path}", flush=True)
    if args.open == "true":
        webbrowser.open(path.as_uri())


def write(experiment: str, name: str, path: Path | None) -> Path:
    """Write the page of a model's windows in an experiment; None means the model's own page in this checkout.

    Raises:
        BadParameter: no such experiment, or no window in it.
    """
    tracking.connect()
    client = MlflowClient()
    runs = history.runs_of(client, experiment_id(client, experiment), name)
    if not runs:
        command = f"mlflow run ./drift --env-manager local --experiment-name {quote(experiment)}"
        model = f"model_name={'none' if name == history.NO_MODEL else name}"
        raise BadParameter(f"experiment '{experiment}' has no window of {name}. Make one: {command} -P {quote(model)}")
    path = path or history.pages_of(name) / PAGE
    report = path.with_name(history.REPORT)
    text = page_of(name, runs, report if report.is_file() else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
