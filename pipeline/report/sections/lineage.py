"""The origin of everything, by ids and digests, and the command that makes it again."""

from __future__ import annotations

import shlex

from mlflow.utils import mlflow_tags

from pipeline.report.blocks import (
    CODE,
    QUIET,
    WARN,
    Block,
    Cell,
    Code,
    Section,
    Table,
    Text,
    make_cells,
    make_fact_table,
)
from pipeline.report.format import format_seconds, format_time
from pipeline.report.gather import PipelineResult
from pipeline.report.step_states import FAILED, RAN
from pipeline.tags import CHANGED_FILES, CONFIG_ARTIFACT, JOB, OVERRIDES
from stepkit.commands import quote_options
from stepkit.store.lineage import MODEL_ID, OUTPUT, SIZE, list_published, read_inputs

SWEEP_KEYS = ("hydra/", "hydra.", "sweep.")
"""Overrides that a sweep needs and one job of it does not."""


def make_lineage_section(result: PipelineResult) -> Section:
    runs = [
        make_cells(Cell(step.name, CODE), Cell(step.run_id, CODE), step.state) for step in result.steps if step.run_id
    ]
    versions = [make_cells(Cell(line, CODE)) for line in result.versions]
    tables = [
        make_fact_table("Where it ran", _list_facts(result)),
        Table("Runs", ["step", "run id", "state"], runs),
        Table("Artifacts by digest", ["artifact", "step", "sha256", "bytes"], _make_artifact_rows(result), folded=True),
        Table("Versions that the model was made with", ["requirement"], versions, folded=True),
    ]
    return Section("lineage", "Lineage", [table for table in tables if table.rows])


def _list_facts(result: PipelineResult) -> list[tuple[str, str | Cell]]:
    info, tags = result.run.info, result.run.data.tags
    sweep = result.sweep.info.run_id if result.sweep else ""
    changed = tags.get(CHANGED_FILES)
    return [
        ("pipeline run", Cell(info.run_id, CODE)),
        ("experiment", f"{result.experiment} ({info.experiment_id})"),
        ("sweep", Cell(f"{sweep}, job {tags.get(JOB, '')}" if sweep else "", CODE)),
        ("begun", format_time(info.start_time)),
        ("ended", format_time(info.end_time)),
        ("started by", tags.get(mlflow_tags.MLFLOW_USER, "")),
        ("started from", Cell(tags.get(mlflow_tags.MLFLOW_SOURCE_NAME, "").rstrip("/").rsplit("/", 1)[-1], CODE)),
        ("commit", Cell(find_commit(result) or "not known", CODE)),
        ("changes beyond the commit", changed or "none" if changed is not None else "not recorded"),
        ("branch", Cell(tags.get(mlflow_tags.MLFLOW_GIT_BRANCH, ""), CODE)),
        ("environment manager", Cell(_get_env_manager(result), CODE)),
        ("model", Cell(result.get_tag("random_forest", MODEL_ID), CODE)),
        (
            "trained for",
            next((format_seconds(step.seconds) for step in result.steps if step.name == "random_forest"), ""),
        ),
    ]


def _get_env_manager(result: PipelineResult) -> str:
    """The run's environment manager, of a job that of its sweep; MLflow notes every one but `local`."""
    noted = [run.data.tags.get(mlflow_tags.MLFLOW_PROJECT_ENV) for run in (result.run, result.sweep) if run]
    return next(filter(None, noted), "local")


def find_commit(result: PipelineResult) -> str:
    """The commit that the pipeline was started from: noted by its own run, or by the steps that it started."""
    own = [result.runs[step.name] for step in result.steps if step.state in (RAN, FAILED)]
    noted = (run.data.tags.get(mlflow_tags.MLFLOW_GIT_COMMIT, "") for run in (result.run, *own) if run)
    return next(filter(None, noted), "")


def _make_artifact_rows(result: PipelineResult) -> list[list[Cell]]:
    return [
        make_cells(
            Cell(name, CODE), step, Cell(run.data.tags[OUTPUT + name], CODE), f"{int(run.data.tags[SIZE + name]):,}"
        )
        for step, run in result.runs.items()
        if run
        for name in list_published(run)
    ]


def make_reproduction_section(result: PipelineResult) -> Section:
    """The command that makes this run again."""
    given = find_overrides(result)
    commit = find_commit(result)
    blocks: list[Block] = [Text("Configuration: config.yaml as it stands at the commit, nothing else.")]
    if given is None:
        unknown = "This run did not note what it was given beside config.yaml; its whole configuration is"
        blocks = [Text(f"{unknown} {CONFIG_ARTIFACT}.", WARN)]
    elif given:
        rows = [[Cell(part, CODE) for part in one.split("=", 1)] for one in given]
        blocks = [Table("Configuration that differs from config.yaml", ["key", "value"], rows)]
    checkout = f"git checkout {commit}\n" if commit else ""
    blocks.append(Code("To run it again", checkout + make_command(result, given or [])))
    if changed := result.run.data.tags.get(CHANGED_FILES):
        uncommitted = f"Files were changed and not committed, so the commit alone does not suffice: {changed}."
        blocks.append(Text(uncommitted, WARN))
    blocks.append(Text(_describe_reproducibility(result), QUIET))
    return Section("again", "How to reproduce it", blocks)


def find_overrides(result: PipelineResult) -> list[str] | None:
    """The overrides on the command line, of a job those of the sweep and its own; None if they are not known."""
    own = result.run.data.tags.get(OVERRIDES)
    if result.sweep is None:
        return None if own is None else own.splitlines()
    ours = (own or "").splitlines()
    swept = {_get_key(one) for one in ours}
    common = result.sweep.data.tags.get(OVERRIDES, "").splitlines()
    return [one for one in common if _get_key(one) not in swept and not _get_key(one).startswith(SWEEP_KEYS)] + ours


def _get_key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def make_command(result: PipelineResult, given: list[str]) -> str:
    """One line for a shell; `mlflow run` hands the options on as one word, in which each is quoted again."""
    words = ["mlflow", "run", ".", "--env-manager", _get_env_manager(result)]
    if not any(_get_key(one) == "main.experiment_name" for one in given):
        words += ["--experiment-name", result.experiment]
    return " ".join([shlex.join(words), *(["-P", f"hydra_options={quote_options(given)}"] if given else [])])


def _describe_reproducibility(result: PipelineResult) -> str:
    seed = (result.config.get("main") or {}).get("random_seed")
    seeded = f"Every random choice follows from the seed {seed}; " if seed is not None else ""
    run = result.runs.get("preprocess")
    raw = next((text for name, text in read_inputs(run).items() if name.endswith("raw_data.csv")), "") if run else ""
    return f"{seeded}the same source, code and configuration give the same model.{f' Read: {raw}.' if raw else ''}"
