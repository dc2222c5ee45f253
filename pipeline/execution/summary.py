"""Closing table of a pipeline: steps, metrics, verdict, model version, links and the next command."""

from __future__ import annotations

from itertools import zip_longest
from shlex import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from rich.table import Table
from rich.text import Text

from pipeline.config import Config
from pipeline.execution.progress import DONE, RUNNING, Display
from pipeline.tags import NOTE, STEP_RUN
from stepkit.commands import quote_options
from stepkit.errors import ModelRejected
from stepkit.model.metric_table import format_metric, get_metric
from stepkit.secret_urls import hide_secrets
from stepkit.settings.evaluate import PASSED, REASONS, REJECTED, VERDICT
from stepkit.settings.load import DEFAULT_MODEL, format_make_command
from stepkit.store.lineage import DATA_SET, SUMMARY, SYNTHETIC, read_data_set
from stepkit.store.tracking import DEFAULT_URI

HEADLINE = ("test_roc_auc", "test_average_precision", "test_brier_score", "test_f1")
COPIED_TAGS = (VERDICT, REASONS, "model_name", "model_version", DATA_SET, SYNTHETIC)
"""Tags that are copied from step runs to the pipeline run."""

TABLE_METRICS = ("roc_auc", "average_precision", "brier_score", "precision", "recall")
CREDIT_METRICS = ("gini", "ks_statistic")
"""Metrics of the closing table: its row "test metrics", and its row "credit sheet"."""


def log_headline(client: MlflowClient, pipeline_run_id: str, done: dict[str, str], model: str) -> None:
    """Log the main metrics, the model version and the summaries of the steps to the pipeline run.

    `done` has the run id of each step; `model` is the name of the model step.
    """
    runs = {name: client.get_run(run_id) for name, run_id in done.items()}
    metrics, tags = list[Metric](), list[RunTag]()
    for run in [runs[name] for name in (model, "evaluate", "register") if name in runs]:
        metrics += [
            Metric(key, value, run.info.end_time or 0, 0)
            for key, value in run.data.metrics.items()
            if key in HEADLINE or key.startswith("val_")
        ]
        tags += [RunTag(tag, run.data.tags[tag]) for tag in COPIED_TAGS if tag in run.data.tags]
    summaries = [f"- **{name}**: {run.data.tags.get(SUMMARY, '')}" for name, run in runs.items()]
    client.log_batch(pipeline_run_id, metrics=metrics, tags=[*tags, RunTag(NOTE, "\n".join(summaries))])


def build_closing_table(
    client: MlflowClient, pipeline_run_id: str, display: Display, uri: str, seconds: float, report: str
) -> Table:
    """Return the table that is printed after a pipeline without errors; `report` is the path or URL of its report."""
    run = client.get_run(pipeline_run_id)
    runs = {name: client.get_run(run_id) for name, run_id in read_step_runs(run).items()}
    experiment = client.get_experiment(run.info.experiment_id).name
    rows = [
        *build_step_rows(display),
        *_build_result_rows(runs),
        ("pipeline run", f"{pipeline_run_id} in experiment {experiment}"),
        ("report", report),
        ("look", format_ui_command(uri)),
        *_build_next_rows(runs),
    ]
    return make_two_column_table(f"\ndone in {seconds:.1f} s", rows)


def read_step_runs(pipeline: Run) -> dict[str, str]:
    """Return the run id of each step of a pipeline run: executed, reused or only read."""
    tags = pipeline.data.tags
    return {key.removeprefix(STEP_RUN): run_id for key, run_id in tags.items() if key.startswith(STEP_RUN)}


def build_failed_table(display: Display, seconds: float, report: str) -> Table:
    """Return the table that is printed after a pipeline that failed. The error follows it."""
    rows = [*build_step_rows(display), ("report", report)]
    return make_two_column_table(f"\nfailed after {seconds:.1f} s", rows, "bold red")


def make_two_column_table(title: str, rows: list[tuple[str, str]], style: str = "bold green") -> Table:
    """Return a table of labels and texts. Long texts continue in their own column."""
    table = Table.grid(padding=(0, 3))
    table.title = Text(title, style=style)
    table.title_justify = "left"
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, Text(text))
    return table


def build_step_rows(display: Display) -> list[tuple[str, str]]:
    """Return the outcome of each step (ran, reused, failed ...), and why it ran again."""
    lines = display.lines.values()
    if all(line.state == DONE and not line.why for line in lines):
        return [("steps", f"{len(lines)} ran")]
    width = max(map(len, display.lines))
    words = {DONE: "ran", RUNNING: "interrupted"}
    rows = [f"{line.name:<{width}}  {words.get(line.state, line.state):<8}{line.why}".rstrip() for line in lines]
    return list(zip_longest(["steps"], rows, fillvalue=""))


def _build_result_rows(runs: dict[str, Run]) -> list[tuple[str, str]]:
    rows = []
    if "evaluate" in runs:
        evaluate = runs["evaluate"].data
        rows = [
            ("test metrics", _format_metrics(evaluate.metrics, TABLE_METRICS)),
            ("credit sheet", _format_metrics(evaluate.metrics, CREDIT_METRICS)),
            ("data set", str(read_data_set(evaluate.tags))),
            ("verdict", format_verdict(runs["evaluate"])),
        ]
    if "register" in runs:
        rows.append(("model", runs["register"].data.tags.get(SUMMARY, "")))
    return rows


def _format_metrics(metrics: dict[str, float], names: tuple[str, ...]) -> str:
    return ", ".join(f"{get_metric(name).label} {format_metric(metrics.get(f'test_{name}'))}" for name in names)


def format_ui_command(uri: str) -> str:
    """Return the command that shows the runs of a tracking store in a browser, or the URL of its server."""
    if uri == DEFAULT_URI:
        return "make ui"
    url = hide_secrets(uri)
    return url if uri.startswith("http") else f"mlflow ui --port 5050 --backend-store-uri {quote(url)}"


def _build_next_rows(runs: dict[str, Run]) -> list[tuple[str, str]]:
    if "register" not in runs:
        return []
    name, version = (runs["register"].data.tags[tag] for tag in ("model_name", "model_version"))
    if runs["evaluate"].data.tags[VERDICT] != PASSED:
        promote = f'{format_make_command("promote", name)} VERSION={version} REASON="..."'
        return [
            ("next", f"{format_make_command('models', name)}   # lists the versions"),
            ("", f"{promote}   # overrules the verdict"),
        ]
    options = "" if name == DEFAULT_MODEL else f" options={quote_options([f'model_name={name}'])}"
    return [
        ("next", f"make serve{options}"),
        ("", f"or: mlflow models serve -m {quote(f'models:/{name}@champion')} --env-manager local --port 5001"),
    ]


def format_verdict(evaluate: Run) -> str:
    """Return the verdict in words, and the reasons why rules failed."""
    tags = evaluate.data.tags
    reasons = tags.get(REASONS, "")
    return str(tags[VERDICT].replace("_", " ")) + (f": {reasons}" if reasons else "")


def verify_accepted(client: MlflowClient, config: Config, done: dict[str, str]) -> None:
    """Raise ModelRejected if the gate rejected the model and evaluate.on_reject is "fail"."""
    if config.evaluate.on_reject != "fail" or "evaluate" not in done:
        return
    evaluate = client.get_run(done["evaluate"])
    if evaluate.data.tags.get(VERDICT) == REJECTED:
        raise ModelRejected(
            f"{format_verdict(evaluate)}. The version stays challenger. To continue without an error: "
            "evaluate.on_reject=warn"
        )
