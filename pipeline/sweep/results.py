"""Results of a sweep: the table of its jobs, in the terminal and as an artifact, and the plot."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.config import Sweep as Settings
from pipeline.execution.summary import format_ui_command, format_verdict, make_two_column_table
from pipeline.sweep.job import SECONDS, shorten_value
from pipeline.tags import BEST_JOB, JOB, NOTE, OVERRIDES, PLOT_ARTIFACT, TABLE_ARTIFACT
from stepkit.model.metric_table import get_metric
from stepkit.settings.evaluate import VERDICT
from stepkit.store.lineage import read_data_set


def has_failed(run: Run) -> bool:
    """Return whether a job did not finish."""
    return bool(run.info.status != "FINISHED")


def build_table(jobs: list[Run], settings: Settings) -> pd.DataFrame:
    """Return one row per job: its number, the swept values, the validation metrics, seconds, status and run id."""
    keys = find_swept_keys(jobs)
    return pd.DataFrame([_build_row(run, keys, settings) for run in jobs])


def _build_row(run: Run, keys: list[str], settings: Settings) -> dict[str, Any]:
    overrides, metrics = _read_overrides(run), run.data.metrics
    return {
        "job": int(run.data.tags[JOB]),
        **{key: overrides.get(key, "") for key in keys},
        settings.metric: metrics.get(settings.metric, math.nan),
        **{name: metrics[name] for name in sorted(metrics) if name.startswith("val_") and name != settings.metric},
        SECONDS: metrics.get(SECONDS, math.nan),
        "status": run.info.status,
        "run_id": run.info.run_id,
    }


def _read_overrides(run: Run) -> dict[str, str]:
    parts = [line.partition("=") for line in run.data.tags.get(OVERRIDES, "").splitlines()]
    return {key.lstrip("+~"): value for key, _, value in parts}


def find_swept_keys(jobs: list[Run]) -> list[str]:
    """Return the keys whose values differ between jobs; all keys if there is only one job."""
    overrides_by_job = [_read_overrides(run) for run in jobs]
    keys = list(dict.fromkeys(key for overrides in overrides_by_job for key in overrides))
    return [key for key in keys if len(jobs) == 1 or len({overrides.get(key) for overrides in overrides_by_job}) > 1]


def publish_results(
    client: MlflowClient, run_id: str, settings: Settings, jobs: list[Run], best: Run | None
) -> list[str]:
    """Log the table to the sweep's run, and for a best job also the plot and its metrics, to compare sweeps by.

    Returns:
        The names of the artifacts.
    """
    table, keys = build_table(jobs, settings), find_swept_keys(jobs)
    client.log_text(run_id, table.to_csv(index=False), TABLE_ARTIFACT)
    short_table = table[["job", *keys, settings.metric, SECONDS, "status"]]
    short_table = short_table.assign(**{key: table[key].map(shorten_value) for key in keys})
    note = to_markdown(short_table.rename(columns=shorten_keys(keys)))
    if best is None:
        client.set_tag(run_id, NOTE, f"No best job\n\n{note}")
        return [TABLE_ARTIFACT]
    for name, value in best.data.metrics.items():
        client.log_metric(run_id, name, value)
    tags = {BEST_JOB: best.info.run_id, NOTE: f"Best: **{best.info.run_name}**\n\n{note}"}
    client.log_batch(run_id, tags=[RunTag(name, text) for name, text in tags.items()])
    if not keys:
        return [TABLE_ARTIFACT]
    worst_first = table.sort_values(settings.metric, ascending=settings.direction == "maximize")
    _log_plot(client, run_id, worst_first[worst_first["status"] == "FINISHED"], keys, settings.metric)
    return [TABLE_ARTIFACT, PLOT_ARTIFACT]


def _log_plot(client: MlflowClient, run_id: str, finished: pd.DataFrame, keys: list[str], metric: str) -> None:
    from pipeline.sweep.plot import plot_sweep  # imports matplotlib, which only a sweep needs

    label = f"validation {get_metric(metric.removeprefix('val_')).label}"
    figure = plot_sweep(finished[keys].rename(columns=shorten_keys(keys)), finished[metric].rename(label))
    client.log_figure(run_id, figure, PLOT_ARTIFACT)


def shorten_keys(keys: list[str]) -> dict[str, str]:
    """Return the shortest end of each dotted key that no other key has: the last part, or more of them."""
    short = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
        others = [f".{other}" for other in keys if other != key]
        short[key] = next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), key)
    return short


def to_markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table, with four decimal places for numbers."""
    cells = [[f"{value:.4f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()]
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def build_sweep_table(
    title: str,
    settings: Settings,
    jobs: list[Run],
    best: Run | None,
    uri: str,
    report: str,
    artifacts: list[str],
    progress: list[str],
) -> Group:
    """Return the tables that end a sweep: one row per job, best first and failed ones last, and the links.

    Args:
        title: heading of the table.
        settings: metric by which the jobs are compared, and its direction.
        jobs: runs of the jobs.
        best: run of the best job, if any.
        uri: URI of the tracking store.
        report: path or URL of the report on the best job; "" if it has none.
        artifacts: names that `publish_results` returned.
        progress: progress of a search, in one line.
    """
    table = Table(title=Text(title), title_justify="left")
    keys = find_swept_keys(jobs)
    test = f"test {get_metric('roc_auc').label}"
    for heading in ("job", *shorten_keys(keys).values(), settings.metric, test, SECONDS, ""):
        table.add_column(Text(heading), justify="left" if heading == "" else "right", overflow="fold")
    sign = -1.0 if settings.direction == "maximize" else 1.0
    for run in sorted(jobs, key=lambda run: sign * run.data.metrics.get(settings.metric, math.inf * sign)):
        overrides, metrics = _read_overrides(run), run.data.metrics
        numbers = [_format_number(metrics.get(name)) for name in (settings.metric, "test_roc_auc")]
        values = [shorten_value(overrides.get(key, "")) for key in keys]
        cells = [run.data.tags[JOB], *values, *numbers, _format_number(metrics.get(SECONDS), 1)]
        is_best = best is not None and run.info.run_id == best.info.run_id
        mark = Text("best", "bold green") if is_best else Text("failed" if has_failed(run) else "", "red")
        table.add_row(*map(Text, cells), mark)
    rows = [*(("search", line) for line in progress), *_build_verdict_rows(best)]
    rows.append(("artifacts", f"{', '.join(artifacts)} of the sweep's run"))
    rows += [("report", report)] if report else []
    return Group(table, make_two_column_table("", [*rows, ("look", format_ui_command(uri))]))


def _build_verdict_rows(best: Run | None) -> list[tuple[str, str]]:
    """Return the data set, and the verdict on the best job."""
    if best is None or VERDICT not in best.data.tags:
        return []
    return [("data set", str(read_data_set(best.data.tags))), ("best job", format_verdict(best))]


def _format_number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"
