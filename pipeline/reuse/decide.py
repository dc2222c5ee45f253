"""Whether a finished run does a step's work already: the one place that decides it, and says why not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.config import Main
from pipeline.external_state import ITSELF, StepContext
from pipeline.reuse.fingerprint import (
    INPUT,
    OUTSIDE,
    PARAMETER,
    Parts,
    compute_code_parts,
    compute_key,
    describe_differences,
    flatten,
)
from pipeline.steps import Step, select_steps
from pipeline.tags import FINGERPRINT, FINGERPRINT_ARTIFACT, PURPOSE
from stepkit.paths import to_artifact_path
from stepkit.settings.evaluate import PASSED, VERDICT
from stepkit.store import lineage
from stepkit.store.model_files import compare_digests as model_differences
from stepkit.store.model_files import compute_digests, fetch_model
from stepkit.table import tables

SOURCE, CHAMPION = f"{OUTSIDE}:source", f"{OUTSIDE}:champion"
MAX_REASONS = 3
MAX_CANDIDATES = 5


@dataclass(frozen=True)
class Decision:
    """The run that did the work already, or None and why the step runs ("" for the first time)."""

    parts: Parts
    run: Run | None = None
    why: str = ""

    @property
    def key(self) -> str:
        return compute_key(self.parts)


def decide_reuse(context: StepContext, step: Step) -> Decision:
    """Look for a finished run of `step` that may stand for a new one.

    Args:
        context: with the runs of all steps that this one reads.

    Raises:
        MlflowException: the tracking server does not answer.
    """
    parts = compute_fingerprint(context, step)
    if off := explain_reuse_off(context.config.main, step):
        return Decision(parts, why=off)
    problems = []
    same_key = f"tags.{FINGERPRINT} = '{compute_key(parts)}'"
    for run in _search_finished(context, step, same_key, lineage.NEWEST_FIRST, MAX_CANDIDATES):
        problem = explain_not_reusable(context, step, run, parts)
        if not problem:
            return Decision(parts, run)
        problems.append(problem)
    return Decision(parts, why=problems[0] if problems else explain_rerun(context, step, parts))


def explain_reuse_off(main: Main, step: Step) -> str:
    if step in select_steps(main.rerun):
        return "main.rerun names it"
    return "" if main.reuse else "main.reuse is false"


def compute_fingerprint(context: StepContext, step: Step) -> Parts:
    """Return what the result of `step` depends on: code, parameters, inputs, and external state."""
    own = step.parameters(context.config, "")
    parameters = {name: value for name, value in own.items() if name not in step.contents}
    for contents in step.contents.values():
        parameters |= flatten(contents(context.config))
    inputs = {
        artifact: text for name in set(step.reads.values()) for artifact, text in _fetch_outputs(context, name).items()
    }
    named = {PARAMETER: parameters, INPUT: inputs, OUTSIDE: step.external_state(context)}
    return compute_code_parts(step.name, *step.packs) | {
        f"{kind}:{name}": text for kind in named for name, text in named[kind].items()
    }


def _fetch_outputs(context: StepContext, name: str) -> dict[str, str]:
    """Return the digest of each artifact that the run of an earlier step has published, and the id of its model."""
    tags = context.client.get_run(context.done[name]).data.tags
    outputs = {f"{artifact} of {name}": text for artifact, text in _select_prefixed(tags, lineage.OUTPUT).items()}
    return outputs | ({f"model of {name}": tags[lineage.MODEL_ID]} if lineage.MODEL_ID in tags else {})


def _select_prefixed(tags: dict[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): text for key, text in tags.items() if key.startswith(prefix)}


def explain_not_reusable(context: StepContext, step: Step, run: Run, parts: Parts) -> str:
    """Return why a run with the same fingerprint cannot stand for a new one, or ""."""
    if lineage.DAMAGED in run.data.tags:
        return f"its artifact {run.data.tags[lineage.DAMAGED]} was found missing or altered"
    return (
        describe_external_changes(context, run, parts)
        or step.explain_undone(context, run)
        or explain_not_intact(context.client, run)
    )


def describe_external_changes(context: StepContext, run: Run, parts: Parts) -> str:
    """Return what changed in the external state since `run`, or ""."""
    if parts.get(SOURCE) == "":
        of_this_sweep = 0 < context.since <= run.info.start_time
        return "" if of_this_sweep else "its source names neither ETag nor time of change"
    if parts.get(CHAMPION) == ITSELF and run.data.tags.get(VERDICT) == PASSED:
        return ""  # it is this verdict that made the model champion
    return "; ".join(describe_differences(json.loads(run.data.tags.get(OUTSIDE, "{}")), _select_external(parts)))


def _select_external(parts: Parts) -> Parts:
    return {name: text for name, text in parts.items() if name.startswith(OUTSIDE)}


def explain_not_intact(client: MlflowClient, run: Run) -> str:
    """Return which artifact of a run is deleted, truncated or cannot be reached, or ""."""
    try:
        return next(_iter_losses(client, run), "")
    except (MlflowException, OSError) as error:
        return f"its artifacts cannot be listed ({type(error).__name__}: {str(error)[:120]})"


def _iter_losses(client: MlflowClient, run: Run) -> Iterator[str]:
    tags = run.data.tags
    expected = {name: int(text) for name, text in _select_prefixed(tags, lineage.SIZE).items()}
    sizes = _fetch_sizes(client, run.info.run_id, {str(Path(name).parent) for name in expected})
    for name, size in expected.items():
        if name not in sizes:
            yield f"its artifact {name} is gone"
        elif sizes[name] != size:
            yield f"its artifact {name} has {sizes[name]:,} bytes instead of {size:,}"
    if lineage.MODEL_ID in tags:
        with tempfile.TemporaryDirectory(prefix="model-") as folder:
            now = compute_digests(fetch_model(client, tags[lineage.MODEL_ID], Path(folder)))
        logged = json.loads(tags.get(lineage.MODEL_DIGESTS, "{}"))
        yield from (f"its artifact {words}" for words in model_differences(logged, now))
    yield from _iter_altered(run)


def _fetch_sizes(client: MlflowClient, run_id: str, folders: set[str]) -> dict[str, int]:
    listed = [entry for folder in folders for entry in client.list_artifacts(run_id, "" if folder == "." else folder)]
    return {entry.path: int(entry.file_size or 0) for entry in listed if not entry.is_dir}


def _iter_altered(run: Run) -> Iterator[str]:
    """Where the artifacts lie on this machine, compare what is in them too; elsewhere the step that reads them does."""
    folder = to_artifact_path(run.info.artifact_uri)
    if folder is None:
        return
    for name in lineage.list_published(run):
        path, recorded = folder / name, run.data.tags[lineage.OUTPUT + name]
        if path.is_symlink() or f"sha256:{tables.compute_sha256(path)}" != recorded:
            yield f"its artifact {name} was altered"


def explain_rerun(context: StepContext, step: Step, parts: Parts) -> str:
    """Return in words what changed since the step last ran for this data set and model; "" if it never ran."""
    last_first = [f"tags.{lineage.CURRENT_SINCE} DESC", *lineage.NEWEST_FIRST]  # made or reused last
    alike = _search_finished(context, step, f"tags.{PURPOSE} = '{context.purpose}'", last_first)
    runs = alike or _search_finished(context, step, "", last_first)
    if not runs:
        return ""
    if not alike and PURPOSE in runs[0].data.tags:  # a step that was run alone does not note it
        return f"first run of this data set for {context.config.register_.model_name}"
    before = _load_recorded_parts(runs[0])
    changed = describe_differences(before, parts) if before else ["what it ran with is not known"]
    more = f" and {len(changed) - MAX_REASONS} more" if len(changed) > MAX_REASONS else ""
    return ", ".join(changed[:MAX_REASONS]) + more


def _search_finished(context: StepContext, step: Step, more: str, order: list[str], most: int = 1) -> list[Run]:
    chosen = [f"tags.{lineage.STEP} = '{step.run_name}'", "attributes.status = 'FINISHED'", *filter(None, [more])]
    ids = [context.experiment_id]
    return list(context.client.search_runs(ids, " and ".join(chosen), max_results=most, order_by=order))


def _load_recorded_parts(run: Run) -> Parts:
    try:
        parts: Parts = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{FINGERPRINT_ARTIFACT}")
    except (MlflowException, OSError):
        return {}
    return parts


def build_tags(decision: Decision, context: StepContext) -> dict[str, str]:
    """Return the tags by which the run that is about to start will be found again."""
    outside = json.dumps(_select_external(decision.parts), sort_keys=True)
    return {FINGERPRINT: decision.key, OUTSIDE: outside, PURPOSE: context.purpose}
