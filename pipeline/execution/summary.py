"""A pipeline's last words: what ran and why, metrics, verdict, model version, where to look, what to type next."""

from __future__ import annotations

from shlex import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from rich.table import Table
from rich.text import Text

from pipeline.config import Config
from pipeline.execution.progress import DONE, RUNNING, Display, Line
from pipeline.tags import NOTE
from stepkit.commands import as_options
from stepkit.errors import ModelRejected
from stepkit.secret_urls import shown
from stepkit.settings.evaluate import PASSED, REASONS, REJECTED, VERDICT
from stepkit.settings.load import DEFAULT_MODEL, make_for
from stepkit.store.lineage import DATA_SET, SUMMARY, SYNTHETIC, data_set_in
from stepkit.store.tracking import DEFAULT_URI

HEADLINE = ("test_roc_auc", "test_average_precision", "test_brier_score", "test_f1")
CARRIED = (VERDICT, REASONS, "model_name", "model_version", DATA_SET, SYNTHETIC)
"""Tags of steps that the pipeline's run has too."""


def _runs(client: MlflowClient, done: dict[str, str]) -> dict[str, Run]:
    return {name: client.get_run(run_id) for name, run_id in done.items()}


def log_headline(client: MlflowClient, pipeline_run_id: str, done: dict[str, str]) -> None:
    """Put the metrics by which pipelines are compared, the version and what the steps said on the pipeline's run."""
    runs = _runs(client, done)
    metrics, tags = list[Metric](), list[RunTag]()
    for name in [step for step in ("random_forest", "evaluate", "register") if step in runs]:
        found = runs[name].data
        at = runs[name].info.end_time or 0
        metrics += [
            Metric(key, value, at, 0)
            for key, value in found.metrics.items()
            if key in HEADLINE or key.startswith("val_")
        ]
        tags += [RunTag(tag, found.tags[tag]) for tag in CARRIED if tag in found.tags]
    said = [f"- **{name}**: {run.data.tags.get(SUMMARY, '')}" for name, run in runs.items()]
    client.log_batch(pipeline_run_id, metrics=metrics, tags=[*tags, RunTag(NOTE, "\n".join(said))])


def closing_table(
    client: MlflowClient,
    pipeline_run_id: str,
    done: dict[str, str],
    show: Display,
    uri: str,
    seconds: float,
    report: str,
) -> Table:
    """Return the table that is printed after a pipeline that went well; `report` says where its report is."""
    runs = _runs(client, done)
    run = client.get_run(pipeline_run_id)
    experiment = client.get_experiment(run.info.experiment_id).name
    table = two_columns(f"\ndone in {seconds:.1f} s")
    for label, text in (
        *steps_rows(show),
        *_results(runs),
        ("pipeline run", f"{pipeline_run_id} in experiment {experiment}"),
        ("report", report),
        ("look", where_to_look(uri)),
        *_next(runs),
    ):
        table.add_row(label, Text(text))
    return table


def failed_table(show: Display, seconds: float, report: str) -> Table:
    """Return the table that is printed after a pipeline that failed; what went wrong is told after it."""
    table = two_columns(f"\nfailed after {seconds:.1f} s", "bold red")
    for label, text in (*steps_rows(show), ("report", report)):
        table.add_row(label, Text(text))
    return table


def two_columns(title: str, style: str = "bold green") -> Table:
    table = Table.grid(padding=(0, 3))
    table.title = Text(title, style=style)
    table.title_justify = "left"
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def steps_rows(show: Display) -> list[tuple[str, str]]:
    """For every step: ran, reused or failed, and why it ran again."""
    lines = show.lines.values()
    if all(line.state == DONE and not line.why for line in lines):
        return [("steps", f"{len(lines)} ran")]
    width = max(map(len, show.lines))
    return [
        ("steps" if number == 0 else "", f"{line.name:<{width}}  {_how(line)}") for number, line in enumerate(lines)
    ]


def _how(line: Line) -> str:
    state = {DONE: "ran", RUNNING: "interrupted"}.get(line.state, line.state)
    return f"{state:<8}{line.why}".rstrip()


def _results(runs: dict[str, Run]) -> list[tuple[str, str]]:
    rows = []
    if "evaluate" in runs:
        found = runs["evaluate"].data.metrics
        rows.append(("test metrics", ", ".join(f"{_words(name)} {_number(found, name)}" for name in _SHOWN)))
        rows.append(("data set", str(data_set_in(runs["evaluate"].data.tags))))
        rows.append(("verdict", in_words(runs["evaluate"])))
    if "register" in runs:
        rows.append(("model", runs["register"].data.tags.get(SUMMARY, "")))
    return rows


_SHOWN = ("roc_auc", "average_precision", "brier_score", "precision", "recall")


def _number(found: dict[str, float], name: str) -> str:
    value = found.get(f"test_{name}")
    return "not computed" if value is None else f"{value:.4f}"


def _words(name: str) -> str:
    return {"roc_auc": "AUC"}.get(name, name.replace("_", " "))


def where_to_look(uri: str) -> str:
    if uri == DEFAULT_URI:
        return "make ui"
    return shown(uri) if uri.startswith("http") else f"mlflow ui --port 5050 --backend-store-uri {quote(shown(uri))}"


def _next(runs: dict[str, Run]) -> list[tuple[str, str]]:
    if "register" not in runs:
        return []
    name, version = (runs["register"].data.tags[tag] for tag in ("model_name", "model_version"))
    if verdict_of(runs) != PASSED:
        against = f'{make_for("promote", name)} VERSION={version} REASON="..."'
        return [("next", f"{make_for('models', name)} lists the versions; to overrule the verdict: {against}")]
    options = "" if name == DEFAULT_MODEL else f" options={as_options([f'model_name={name}'])}"
    return [
        ("next", f"make serve{options}"),
        ("", f"or mlflow models serve -m {quote(f'models:/{name}@champion')} --env-manager local --port 5001"),
    ]


def verdict_of(runs: dict[str, Run]) -> str:
    return str(runs["evaluate"].data.tags.get(VERDICT, "")) if "evaluate" in runs else ""


def in_words(evaluate: Run) -> str:
    """The verdict, and which rules failed and how."""
    tags = evaluate.data.tags
    reasons = tags.get(REASONS, "")
    return tags[VERDICT].replace("_", " ") + (f": {reasons}" if reasons else "")


def expect_accepted(client: MlflowClient, config: Config, done: dict[str, str]) -> None:
    """Raise ModelRejected if the gate rejected the model and evaluate.on_reject says that this is a failure."""
    runs = _runs(client, {name: run_id for name, run_id in done.items() if name == "evaluate"})
    if config.evaluate.on_reject == "fail" and verdict_of(runs) == REJECTED:
        raise ModelRejected(
            f"{in_words(runs['evaluate'])}. It is kept as challenger; evaluate.on_reject=warn lets it be"
        )
