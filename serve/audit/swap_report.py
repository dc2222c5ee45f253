"""Result of a swap comparison: swap.csv, a page, text for the terminal, and an MLflow run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from serve.audit.records import format_skipped
from serve.audit.swap import SWAP_IN, SWAP_OUT, Comparison, Part, iter_parts, measure_part
from serve.model.onnx_graph import Graph
from stepkit.files import replace_file
from stepkit.model.statistics import Interval
from stepkit.words import pluralize

TEMPLATE = Path(__file__).with_name("swap.html.j2")
EXPERIMENT = "swap"
COLUMNS = ("request_id", "row", "time", "model_version", "swap", "recorded_probability", "probability", "label")
"""Columns of swap.csv."""


def write_report(comparison: Comparison, title: str, model: Graph, path: Path) -> None:
    """Write swap.csv to `path` and the page next to it, log both to MLflow, and print the result."""
    total, page = measure_part("all", comparison.table), path.with_suffix(".html")
    write_swaps(comparison, path)
    write_page(page, title, total, comparison)
    run_id = log_result(model, total, comparison, [path, page])
    print(f"{format_result(total, comparison)}\nwrote {path} and {page} (run {run_id})", flush=True)


def write_swaps(comparison: Comparison, path: Path) -> None:
    """Write the answers that change as CSV, with COLUMNS."""
    table = comparison.table[comparison.table["recorded_class"] != comparison.table["class"]]
    table = table.assign(swap=np.where(table["class"] == 0, SWAP_IN, SWAP_OUT), label=table["label"].astype("Int64"))
    with replace_file(path) as target:
        table.reindex(columns=[*COLUMNS]).to_csv(target, index=False)


def format_percent(rate: Interval) -> str:
    """Return a rate with its interval; "unknown" if it was not computed."""
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if np.isfinite(rate.value) else "unknown"


def format_result(total: Part, comparison: Comparison) -> str:
    """Return the result for people, in one line per number."""
    counts = [f"{name} version {number}: {count:,}" for (name, number), count in comparison.versions.items()]
    return "\n".join(
        [
            f"compared: {pluralize(total.rows, 'answer')} on record ({', '.join(counts)})",
            *format_skipped(comparison.skipped),
            f"approved on record: {format_percent(total.recorded)}, by the other version: "
            f"{format_percent(total.approved)}",
            f"refused that would be approved: {total.swap_in:,}, bad rate {format_percent(total.bad_in)} of "
            f"{total.swap_in_labels:,} with a label",
            f"approved that would be refused: {total.swap_out:,}, bad rate {format_percent(total.bad_out)} of "
            f"{total.swap_out_labels:,} with a label",
        ]
    )


def write_page(path: Path, title: str, total: Part, comparison: Comparison) -> None:
    """Write the result as one HTML page that works offline."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    times = comparison.table["time"]
    page = template.render(
        title=title,
        total=total,
        versions=comparison.versions,
        skipped=format_skipped(comparison.skipped),
        first=times.min(),
        last=times.max(),
        parts=list(iter_parts(comparison)),
    )
    with replace_file(path) as target:
        target.write_text(page, encoding="utf-8")


def format_tag(total: Part, comparison: Comparison, run_id: str) -> str:
    """Return the result in one line, for the list of versions."""
    times = comparison.table["time"]
    return (
        f"of {pluralize(total.rows, 'answer')} on record ({times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}), "
        f"{total.swap_in:,} refused would be approved and {total.swap_out:,} approved would be refused (run {run_id})"
    )


def log_result(model: Graph, total: Part, comparison: Comparison, files: list[Path]) -> str:
    """Log the result as an MLflow run, note it on the version, and return the run's id.

    The run is that of `mlflow run`, else a new one of the experiment EXPERIMENT.
    """
    import mlflow  # the import takes seconds, and only this function needs it

    from stepkit.store import tracking
    from stepkit.store.lineage import SWAP

    tracking.connect()
    if "MLFLOW_RUN_ID" not in os.environ:
        mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run() as run:
        mlflow.set_tags({"model_name": model.name, "model_version": model.version})
        mlflow.log_metrics(to_metrics(total))
        for file in files:
            mlflow.log_artifact(str(file))
    client = mlflow.MlflowClient()
    client.set_model_version_tag(model.name, model.version, SWAP, format_tag(total, comparison, run.info.run_id))
    return str(run.info.run_id)


def to_metrics(total: Part) -> dict[str, float]:
    """Return the metrics of the run, without rates that were not computed."""
    metrics: dict[str, Any] = {
        "rows": total.rows,
        "approval_rate_on_record": total.recorded.value,
        "approval_rate": total.approved.value,
        SWAP_IN: total.swap_in,
        SWAP_OUT: total.swap_out,
        f"{SWAP_IN}_bad_rate": total.bad_in.value,
        f"{SWAP_OUT}_bad_rate": total.bad_out.value,
    }
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
