"""Sections on the lineage: runs, artifacts and versions, and the command that repeats the run."""

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
"""First characters of overrides that only a sweep needs, not one of its jobs."""


def make_lineage_section(result: PipelineResult) -> Section:
    """Return ids, digests and versions of the run, its steps, artifacts and model."""
    runs = [
        make_cells(Cell(step.name, CODE), Cell(step.run_id, CODE), step.state) for step in result.steps if step.run_id
    ]
    versions = [make_cells(Cell(line, CODE)) for line in result.versions]
    tables = [
        make_fact_table("Pipeline run", _list_facts(result)),
        Table("Runs", ["step", "run id", "state"], runs),
        Table("Artifacts", ["artifact", "step", "sha256", "bytes"], _make_artifact_rows(result), folded=True),
        Table("Package versions of the model", ["requirement"], versions, folded=True),
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
        ("started", format_time(info.start_time)),
        ("ended", format_time(info.end_time)),
        ("started by", tags.get(mlflow_tags.MLFLOW_USER, "")),
        ("started from", Cell(tags.get(mlflow_tags.MLFLOW_SOURCE_NAME, "").rstrip("/").rsplit("/", 1)[-1], CODE)),
        ("commit", Cell(find_commit(result) or "unknown", CODE)),
        ("uncommitted changes", changed or "none" if changed is not None else "not recorded"),
        ("branch", Cell(tags.get(mlflow_tags.MLFLOW_GIT_BRANCH, ""), CODE)),
        ("environment manager", Cell(_get_env_manager(result), CODE)),
        ("model", Cell(result.get_tag(result.model, MODEL_ID), CODE)),
        (
            "training time",
            next((format_seconds(step.seconds) for step in result.steps if step.name == result.model), ""),
        ),
    ]


def _get_env_manager(result: PipelineResult) -> str:
    """Return the environment manager of the run or its sweep. MLflow records each of them except `local`."""
    managers = [run.data.tags.get(mlflow_tags.MLFLOW_PROJECT_ENV) for run in (result.run, result.sweep) if run]
    return next(filter(None, managers), "local")


def find_commit(result: PipelineResult) -> str:
    """Return the commit of the pipeline run, from its own tag or a tag of its steps; "" if unknown."""
    step_runs = [result.runs[step.name] for step in result.steps if step.state in (RAN, FAILED)]
    commits = (run.data.tags.get(mlflow_tags.MLFLOW_GIT_COMMIT, "") for run in (result.run, *step_runs) if run)
    return next(filter(None, commits), "")


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
    """Return the command that repeats the run, and the configuration it needs."""
    overrides = find_overrides(result)
    commit = find_commit(result)
    blocks: list[Block] = [Text("Configuration: config.yaml of the commit, without overrides.")]
    if overrides is None:
        unknown = "This run did not record its overrides of config.yaml. Its complete configuration:"
        blocks = [Text(f"{unknown} {CONFIG_ARTIFACT}.", WARN)]
    elif overrides:
        rows = [[Cell(part, CODE) for part in override.split("=", 1)] for override in overrides]
        blocks = [Table("Overrides of config.yaml", ["key", "value"], rows)]
    checkout = f"git checkout {commit}\n" if commit else ""
    blocks.append(Code("Command", checkout + make_command(result, overrides or [])))
    if changed := result.run.data.tags.get(CHANGED_FILES):
        uncommitted = f"The commit alone does not reproduce this run, because it lacks uncommitted changes: {changed}."
        blocks.append(Text(uncommitted, WARN))
    blocks.append(Text(_describe_reproducibility(result), QUIET))
    return Section("again", "Reproduce this run", blocks)


def find_overrides(result: PipelineResult) -> list[str] | None:
    """Return the overrides on the command line, for a job those of its sweep and its own; None if unknown."""
    recorded = result.run.data.tags.get(OVERRIDES)
    if result.sweep is None:
        return None if recorded is None else recorded.splitlines()
    job_overrides = (recorded or "").splitlines()
    swept = {_get_key(override) for override in job_overrides}
    common = result.sweep.data.tags.get(OVERRIDES, "").splitlines()
    shared = [line for line in common if _get_key(line) not in swept and not _get_key(line).startswith(SWEEP_KEYS)]
    return shared + job_overrides


def _get_key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def make_command(result: PipelineResult, overrides: list[str]) -> str:
    """Return a shell command. Each override is quoted twice, because `mlflow run` passes all of them as one word."""
    words = ["mlflow", "run", ".", "--env-manager", _get_env_manager(result)]
    if not any(_get_key(override) == "main.experiment_name" for override in overrides):
        words += ["--experiment-name", result.experiment]
    return " ".join([shlex.join(words), *(["-P", f"hydra_options={quote_options(overrides)}"] if overrides else [])])


def _describe_reproducibility(result: PipelineResult) -> str:
    seed = (result.config.get("main") or {}).get("random_seed")
    seeded = f"All random choices use the seed {seed}. " if seed is not None else ""
    run = result.runs.get("preprocess")
    raw = next((text for name, text in read_inputs(run).items() if name.endswith("raw_data.csv")), "") if run else ""
    return f"{seeded}The same source, code and configuration give the same model.{f' Input: {raw}.' if raw else ''}"
