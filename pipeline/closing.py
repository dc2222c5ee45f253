"""The pipeline's last words: metrics, verdict, model version, where to look, what to type next."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.table import Table
from rich.text import Text

from stepkit.lineage import SUMMARY
from stepkit.tracking import DEFAULT_URI

HEADLINE = ("val_roc_auc", "test_roc_auc", "test_average_precision", "test_brier_score", "test_f1")


NOTE = "mlflow.note.content"


def _runs(client: MlflowClient, done: dict[str, str]) -> dict[str, Run]:
    return {name: client.get_run(run_id) for name, run_id in done.items()}


def log_headline(client: MlflowClient, pipeline_run_id: str, done: dict[str, str]) -> None:
    """Put the metrics by which pipelines are compared, the version and what the steps said on the pipeline's run."""
    for run in _runs(
        client, {name: done[name] for name in ("random_forest", "evaluate", "register") if name in done}
    ).values():
        for name in HEADLINE:
            if name in run.data.metrics:
                client.log_metric(pipeline_run_id, name, run.data.metrics[name])
        for tag in ("verdict", "model_name", "model_version"):
            if tag in run.data.tags:
                client.set_tag(pipeline_run_id, tag, run.data.tags[tag])
    said = [f"- **{name}**: {run.data.tags.get(SUMMARY, '')}" for name, run in _runs(client, done).items()]
    client.set_tag(pipeline_run_id, NOTE, "\n".join(said))


def closing_table(client: MlflowClient, pipeline_run_id: str, done: dict[str, str], uri: str, seconds: float) -> Table:
    """Return the table that is printed after a pipeline that went well."""
    runs = _runs(client, done)
    run = client.get_run(pipeline_run_id)
    experiment = client.get_experiment(run.info.experiment_id).name
    table = Table.grid(padding=(0, 3))
    table.title = Text(f"\ndone in {seconds:.1f} s", style="bold green")
    table.title_justify = "left"
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in (
        *_results(runs),
        ("pipeline run", f"{pipeline_run_id} in experiment {experiment}"),
        *_next(runs, uri),
    ):
        table.add_row(label, Text(text))
    return table


def _results(runs: dict[str, Run]) -> list[tuple[str, str]]:
    rows = []
    if "evaluate" in runs:
        found = runs["evaluate"].data.metrics
        rows.append(("test metrics", ", ".join(f"{_words(name)} {found[f'test_{name}']:.4f}" for name in _SHOWN)))
        rows.append(("verdict", runs["evaluate"].data.tags["verdict"]))
    if "register" in runs:
        rows.append(("model", runs["register"].data.tags.get(SUMMARY, "")))
    return rows


_SHOWN = ("roc_auc", "average_precision", "brier_score", "precision", "recall")


def _words(name: str) -> str:
    return {"roc_auc": "AUC"}.get(name, name.replace("_", " "))


def _next(runs: dict[str, Run], uri: str) -> list[tuple[str, str]]:
    look = (
        "make ui" if uri == DEFAULT_URI else uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
    )
    rows = [("look", look)]
    if "register" in runs:
        name = runs["register"].data.tags["model_name"]
        rows.append(("next", f"mlflow models serve -m models:/{name}@champion --env-manager local --port 5001"))
    return rows
