"""What a person sees of a sweep: the table of its jobs in the terminal and as an artifact, and the plot."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from rich.table import Table
from rich.text import Text

from pipeline.config import Sweep as Settings
from pipeline.execution.summary import in_words, where_to_look
from pipeline.sweep.job import SECONDS, short_value
from pipeline.tags import BEST_JOB, JOB, NOTE, OVERRIDES, PLOT_ARTIFACT, TABLE_ARTIFACT
from stepkit.model.metric_table import metric_of
from stepkit.settings.evaluate import VERDICT
from stepkit.store.lineage import data_set_in


def failed(run: Run) -> bool:
    return bool(run.info.status != "FINISHED")


def as_table(jobs: list[Run], settings: Settings) -> pd.DataFrame:
    """One row per job: its number, what was swept, the validation metrics, seconds and status."""
    return pd.DataFrame([_row(run, swept_keys(jobs), settings) for run in jobs])


def _row(run: Run, keys: list[str], settings: Settings) -> dict[str, Any]:
    given = _overrides(run)
    others = sorted(name for name in run.data.metrics if name.startswith("val_") and name != settings.metric)
    return {
        "job": int(run.data.tags[JOB]),
        **{key: given.get(key, "") for key in keys},
        settings.metric: run.data.metrics.get(settings.metric, math.nan),
        **{name: run.data.metrics[name] for name in others},
        SECONDS: run.data.metrics.get(SECONDS, math.nan),
        "status": run.info.status,
        "run_id": run.info.run_id,
    }


def _overrides(run: Run) -> dict[str, str]:
    lines = run.data.tags.get(OVERRIDES, "").splitlines()
    return {line.partition("=")[0].lstrip("+~"): line.partition("=")[2] for line in lines}


def swept_keys(jobs: list[Run]) -> list[str]:
    """The keys whose values differ between jobs; all keys where there is but one job."""
    given = [_overrides(run) for run in jobs]
    keys = list(dict.fromkeys(key for one in given for key in one))
    return [key for key in keys if len(jobs) == 1 or len({one.get(key) for one in given}) > 1]


def publish(client: MlflowClient, run_id: str, settings: Settings, jobs: list[Run], best: Run | None) -> list[str]:
    """Log the table; if there is a best job, the plot and its metrics too, so that sweeps can be compared as well.

    Returns:
        The names of what was logged.
    """
    table, keys = as_table(jobs, settings), swept_keys(jobs)
    client.log_text(run_id, table.to_csv(index=False), TABLE_ARTIFACT)
    shown = table[["job", *keys, settings.metric, SECONDS, "status"]]
    shown = shown.assign(**{key: table[key].map(short_value) for key in keys}).rename(columns=short_key)
    if best is None:
        client.set_tag(run_id, NOTE, f"No best job\n\n{as_markdown(shown)}")
        return [TABLE_ARTIFACT]
    found = next(run for run in jobs if run.info.run_id == best.info.run_id)
    for name, value in found.data.metrics.items():
        client.log_metric(run_id, name, value)
    note = f"Best: **{best.info.run_name}**\n\n{as_markdown(shown)}"
    client.log_batch(run_id, tags=[RunTag(BEST_JOB, best.info.run_id), RunTag(NOTE, note)])
    return [TABLE_ARTIFACT, *_plotted(client, run_id, settings, table, keys)]


def _plotted(client: MlflowClient, run_id: str, settings: Settings, table: pd.DataFrame, keys: list[str]) -> list[str]:
    """Log the plot of the finished jobs, unless nothing differs between the jobs; return its name if there is one."""
    from pipeline.sweep import plot

    if not keys:
        return []
    worst_first = table.sort_values(settings.metric, ascending=settings.direction == "maximize")
    finished = worst_first[worst_first["status"] == "FINISHED"]
    figure = plot.settings_and_metric(finished[keys].rename(columns=short_key), finished[settings.metric], "Sweep")
    client.log_figure(run_id, figure, PLOT_ARTIFACT)
    return [PLOT_ARTIFACT]


def short_key(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def as_markdown(table: pd.DataFrame) -> str:
    cells = [[f"{value:.4f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()]
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def closing(
    title: str,
    settings: Settings,
    jobs: list[Run],
    best: Run | None,
    uri: str,
    report: str,
    logged: list[str],
    progress: list[str],
) -> Table:
    """Return the table that ends a sweep: a row per job, best first, then failed ones, and where the rest is.

    Args:
        report: where the report of the best job is; "" if it has none.
        logged: the names of what `publish` has logged.
    """
    keys = swept_keys(jobs)
    sign = -1.0 if settings.direction == "maximize" else 1.0
    ranked = sorted(jobs, key=lambda run: sign * run.data.metrics.get(settings.metric, math.inf * sign))
    table = Table(title=Text(title), title_justify="left")
    for heading in ("job", *map(short_key, keys), settings.metric, f"test {metric_of('roc_auc').label}", SECONDS, ""):
        table.add_column(Text(heading), justify="left" if heading == "" else "right")
    for run in ranked:
        row = _row(run, keys, settings)
        mark = "best" if best and run.info.run_id == best.info.run_id else "" if not failed(run) else "failed"
        test = run.data.metrics.get("test_roc_auc")
        cells = [
            str(row["job"]),
            *(short_value(row[key]) for key in keys),
            _number(row[settings.metric]),
            _number(test),
        ]
        table.add_row(
            *map(Text, cells), _number(row[SECONDS], 1), Text(mark, "bold green" if mark == "best" else "red")
        )
    kinds = "table and plot" if PLOT_ARTIFACT in logged else "table"
    where = f"{kinds}: {', '.join(logged)} of the sweep's run; look: {where_to_look(uri)}"
    about = [f"report of the best job: {report}"] if report else []
    table.caption = Text("\n".join([*progress, *verdict_of_best(jobs, best), where, *about]))
    table.caption_justify = "left"
    return table


def verdict_of_best(jobs: list[Run], best: Run | None) -> list[str]:
    """Return the data set, and the verdict on the best job."""
    judged = [run for run in jobs if best and run.info.run_id == best.info.run_id and VERDICT in run.data.tags]
    return [f"data set: {data_set_in(run.data.tags)}; best job: {in_words(run)}" for run in judged]


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"
