"""The origin of everything, by ids and digests, and the command that makes it again."""

from __future__ import annotations

import shlex

from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_BRANCH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PROJECT_ENV,
    MLFLOW_SOURCE_NAME,
    MLFLOW_USER,
)

from pipeline.report.blocks import CODE, QUIET, WARN, Block, Cell, Code, Section, Table, Text, cells, facts
from pipeline.report.format import moment, seconds
from pipeline.report.gather import Found
from pipeline.report.step_states import FAILED, RAN
from pipeline.tags import CHANGED_FILES, CONFIG_ARTIFACT, JOB, OVERRIDES
from stepkit.commands import as_options
from stepkit.store.lineage import MODEL_ID, OUTPUT, SIZE, inputs_of, published_by

OF_THE_SWEEP = ("hydra/", "hydra.", "sweep.")
"""Overrides that a sweep needs and one job of it does not."""


def lineage_section(found: Found) -> Section:
    runs = [cells(Cell(step.name, CODE), Cell(step.run_id, CODE), step.state) for step in found.steps if step.run_id]
    blocks: list[Block] = [facts("Where it ran", _facts(found))]
    if runs:
        blocks.append(Table("Runs", ["step", "run id", "state"], runs))
    if artifacts := _artifacts(found):
        headings = ["artifact", "step", "sha256", "bytes"]
        blocks.append(Table("Artifacts by digest", headings, artifacts, folded=True))
    if found.versions:
        rows = [cells(Cell(line, CODE)) for line in found.versions]
        blocks.append(Table("Versions that the model was made with", ["requirement"], rows, folded=True))
    return Section("lineage", "Lineage", blocks)


def _facts(found: Found) -> list[tuple[str, str | Cell]]:
    info, tags = found.run.info, found.run.data.tags
    sweep = found.sweep.info.run_id if found.sweep else ""
    changed = tags.get(CHANGED_FILES)
    return [
        ("pipeline run", Cell(info.run_id, CODE)),
        ("experiment", f"{found.experiment} ({info.experiment_id})"),
        ("sweep", Cell(f"{sweep}, job {tags.get(JOB, '')}" if sweep else "", CODE)),
        ("begun", moment(info.start_time)),
        ("ended", moment(info.end_time)),
        ("started by", tags.get(MLFLOW_USER, "")),
        ("started from", Cell(tags.get(MLFLOW_SOURCE_NAME, "").rstrip("/").rsplit("/", 1)[-1], CODE)),
        ("commit", Cell(commit_of(found) or "not known", CODE)),
        ("changes beyond the commit", changed or "none" if changed is not None else "not recorded"),
        ("branch", Cell(tags.get(MLFLOW_GIT_BRANCH, ""), CODE)),
        ("environment manager", Cell(_env_manager(found), CODE)),
        ("model", Cell(found.tag("random_forest", MODEL_ID), CODE)),
        ("trained for", next((seconds(step.seconds) for step in found.steps if step.name == "random_forest"), "")),
    ]


def _env_manager(found: Found) -> str:
    """The run's environment manager, of a job that of its sweep; MLflow notes every one but `local`."""
    runs = [run for run in (found.run, found.sweep) if run]
    return next((run.data.tags[MLFLOW_PROJECT_ENV] for run in runs if MLFLOW_PROJECT_ENV in run.data.tags), "local")


def commit_of(found: Found) -> str:
    """The commit that the pipeline was started from: noted by its own run, or by the steps that it started."""
    own = [found.runs[step.name] for step in found.steps if step.state in (RAN, FAILED)]
    noted = (run.data.tags.get(MLFLOW_GIT_COMMIT, "") for run in (found.run, *own) if run)
    return next(filter(None, noted), "")


def _artifacts(found: Found) -> list[list[Cell]]:
    rows = []
    for step, run in found.runs.items():
        tags = run.data.tags if run else {}
        for name in published_by(run) if run else []:
            size = int(tags.get(SIZE + name, "0"))
            rows.append(cells(Cell(name, CODE), step, Cell(tags[OUTPUT + name], CODE), f"{size:,}" if size else ""))
    return rows


def again_section(found: Found) -> Section:
    """The command that makes this run again."""
    given = overrides_of(found)
    commit = commit_of(found)
    blocks: list[Block] = []
    if given is None:
        unknown = "This run did not note what it was given beside config.yaml; its whole configuration is"
        blocks.append(Text(f"{unknown} {CONFIG_ARTIFACT}.", WARN))
    elif given:
        rows = [[Cell(part, CODE) for part in one.split("=", 1)] for one in given]
        blocks.append(Table("Configuration that differs from config.yaml", ["key", "value"], rows))
    else:
        blocks.append(Text("Configuration: config.yaml as it stands at the commit, nothing else."))
    lines = [f"git checkout {commit}"] if commit else []
    blocks.append(Code("To run it again", "\n".join([*lines, command(found, given or [])])))
    if changed := found.run.data.tags.get(CHANGED_FILES):
        uncommitted = f"Files were changed and not committed, so the commit alone does not suffice: {changed}."
        blocks.append(Text(uncommitted, WARN))
    blocks.append(Text(_same_again(found), QUIET))
    return Section("again", "How to reproduce it", blocks)


def overrides_of(found: Found) -> list[str] | None:
    """The overrides on the command line, of a job those of the sweep and its own; None if they are not known."""
    tags = found.run.data.tags
    if found.sweep is not None:
        own = tags.get(OVERRIDES, "").splitlines()
        swept = {_key(one) for one in own}
        common = found.sweep.data.tags.get(OVERRIDES, "").splitlines()
        return [one for one in common if _key(one) not in swept and not _key(one).startswith(OF_THE_SWEEP)] + own
    return tags[OVERRIDES].splitlines() if OVERRIDES in tags else None


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def command(found: Found, given: list[str]) -> str:
    """One line for a shell; `mlflow run` hands the options on as one word, in which each is quoted again."""
    words = ["mlflow", "run", ".", "--env-manager", _env_manager(found)]
    if not any(_key(one) == "main.experiment_name" for one in given):
        words += ["--experiment-name", found.experiment]
    return " ".join([shlex.join(words), *(["-P", f"hydra_options={as_options(given)}"] if given else [])])


def _same_again(found: Found) -> str:
    seed = (found.config.get("main") or {}).get("random_seed")
    seeded = f"Every random choice follows from the seed {seed}; " if seed is not None else ""
    run = found.step_run("preprocess")
    raw = next((text for name, text in inputs_of(run).items() if name.endswith("raw_data.csv")), "") if run else ""
    return f"{seeded}the same source, code and configuration give the same model.{f' Read: {raw}.' if raw else ''}"
