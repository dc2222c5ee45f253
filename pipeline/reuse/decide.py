"""Decision on the reuse of a step: find a finished run that can replace a new one, or explain why there is none."""

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

from pipeline.config import Config
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
    """Decision on one step.

    Attributes:
        parts: fingerprint of the step.
        run: the finished run to reuse, or None.
        why: without a run, the reason why the step runs again; "" for its first run.
    """

    parts: Parts
    run: Run | None = None
    why: str = ""

    @property
    def key(self) -> str:
        """Digest by which runs with the same fingerprint are found."""
        return compute_key(self.parts)


def decide_reuse(context: StepContext, step: Step) -> Decision:
    """Look for a finished run of `step` that can replace a new one.

    Args:
        context: state of the pipeline, with the runs of all steps that this one reads.
        step: step to decide on.

    Raises:
        MlflowException: the tracking server does not respond.
    """
    parts = compute_fingerprint(context, step)
    if reason := explain_reuse_off(context.config, step):
        return Decision(parts, why=reason)
    problems = []
    same_key = f"tags.{FINGERPRINT} = '{compute_key(parts)}'"
    for run in _search_finished(context, step, same_key, lineage.NEWEST_FIRST, MAX_CANDIDATES):
        problem = explain_not_reusable(context, step, run, parts)
        if not problem:
            return Decision(parts, run)
        problems.append(problem)
    return Decision(parts, why=problems[0] if problems else explain_rerun(context, step, parts))


def explain_reuse_off(config: Config, step: Step) -> str:
    """Return which setting turns reuse off for `step`, or ""."""
    if step in select_steps(config.main.rerun, config.model, "main.rerun"):
        return "main.rerun names it"
    return "" if config.main.reuse else "main.reuse is false"


def compute_fingerprint(context: StepContext, step: Step) -> Parts:
    """Return everything that the result of `step` depends on: code, parameters, inputs and external state."""
    step_parameters = step.parameters(context.config, "")
    parameters = {name: value for name, value in step_parameters.items() if name not in step.contents}
    for get_contents in step.contents.values():
        parameters |= flatten(get_contents(context.config))
    inputs: dict[str, str] = {}
    for upstream in set(step.reads.values()):
        inputs |= _fetch_outputs(context, upstream)
    parts = compute_code_parts(step.name, *step.packs)
    for kind, values in ((PARAMETER, parameters), (INPUT, inputs), (OUTSIDE, step.external_state(context))):
        parts |= {f"{kind}:{name}": text for name, text in values.items()}
    return parts


def _fetch_outputs(context: StepContext, name: str) -> dict[str, str]:
    """Return the digest of each artifact that an upstream run published, and the id of its model."""
    tags = context.client.get_run(context.done[name]).data.tags
    outputs = {f"{artifact} of {name}": text for artifact, text in _select_prefixed(tags, lineage.OUTPUT).items()}
    return outputs | ({f"model of {name}": tags[lineage.MODEL_ID]} if lineage.MODEL_ID in tags else {})


def _select_prefixed(tags: dict[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): text for key, text in tags.items() if key.startswith(prefix)}


def explain_not_reusable(context: StepContext, step: Step, run: Run, parts: Parts) -> str:
    """Return why a run with the same fingerprint cannot replace a new one, or ""."""
    if lineage.DAMAGED in run.data.tags:
        return f"its artifact {run.data.tags[lineage.DAMAGED]} was missing or altered"
    return (
        describe_external_changes(context, run, parts)
        or step.explain_undone(context, run)
        or explain_not_intact(context.client, run)
    )


def describe_external_changes(context: StepContext, run: Run, parts: Parts) -> str:
    """Return what changed in the external state since `run`, or ""."""
    if parts.get(SOURCE) == "":
        is_from_this_sweep = 0 < context.since <= run.info.start_time
        return "" if is_from_this_sweep else "its source has neither an ETag nor a modification time"
    if parts.get(CHAMPION) == ITSELF and run.data.tags.get(VERDICT) == PASSED:
        return ""  # This verdict made the model champion.
    return "; ".join(describe_differences(json.loads(run.data.tags.get(OUTSIDE, "{}")), _select_external(parts)))


def _select_external(parts: Parts) -> Parts:
    return {name: text for name, text in parts.items() if name.startswith(OUTSIDE)}


def explain_not_intact(client: MlflowClient, run: Run) -> str:
    """Return which artifact of a run is missing, altered or unreachable, or ""."""
    try:
        return next(_iter_losses(client, run), "")
    except (MlflowException, OSError) as error:
        return f"its artifacts cannot be listed ({type(error).__name__}: {str(error)[:120]})"


def _iter_losses(client: MlflowClient, run: Run) -> Iterator[str]:
    tags = run.data.tags
    logged_sizes = {name: int(text) for name, text in _select_prefixed(tags, lineage.SIZE).items()}
    sizes = _fetch_sizes(client, run.info.run_id, {str(Path(name).parent) for name in logged_sizes})
    for name, size in logged_sizes.items():
        if name not in sizes:
            yield f"its artifact {name} is missing"
        elif sizes[name] != size:
            yield f"its artifact {name} has {sizes[name]:,} bytes instead of {size:,}"
    if lineage.MODEL_ID in tags:
        with tempfile.TemporaryDirectory(prefix="model-") as folder:
            digests = compute_digests(fetch_model(client, tags[lineage.MODEL_ID], Path(folder)))
        logged_digests = json.loads(tags.get(lineage.MODEL_DIGESTS, "{}"))
        yield from (f"its artifact {difference}" for difference in model_differences(logged_digests, digests))
    yield from _iter_altered(run)


def _fetch_sizes(client: MlflowClient, run_id: str, folders: set[str]) -> dict[str, int]:
    entries = [entry for folder in folders for entry in client.list_artifacts(run_id, "" if folder == "." else folder)]
    return {entry.path: int(entry.file_size or 0) for entry in entries if not entry.is_dir}


def _iter_altered(run: Run) -> Iterator[str]:
    """Compare the digests of artifacts on this machine. For other stores, the step that reads them does so."""
    folder = to_artifact_path(run.info.artifact_uri)
    if folder is None:
        return
    for name in lineage.list_published(run):
        path, logged_digest = folder / name, run.data.tags[lineage.OUTPUT + name]
        if path.is_symlink() or f"sha256:{tables.compute_sha256(path)}" != logged_digest:
            yield f"its artifact {name} was altered"


def explain_rerun(context: StepContext, step: Step, parts: Parts) -> str:
    """Return what changed since the step last ran for this data set and model; "" if it never ran."""
    last_used_first = [f"tags.{lineage.CURRENT_SINCE} DESC", *lineage.NEWEST_FIRST]
    same_purpose = _search_finished(context, step, f"tags.{PURPOSE} = '{context.purpose}'", last_used_first)
    runs = same_purpose or _search_finished(context, step, "", last_used_first)
    if not runs:
        return ""
    if not same_purpose and PURPOSE in runs[0].data.tags:  # A step that was run alone has no such tag.
        return f"first run of this data set for {context.config.register_.model_name}"
    before = _load_recorded_parts(runs[0])
    changes = describe_differences(before, parts) if before else ["its last run has no fingerprint"]
    more = f" and {len(changes) - MAX_REASONS} more" if len(changes) > MAX_REASONS else ""
    return ", ".join(changes[:MAX_REASONS]) + more


def _search_finished(
    context: StepContext, step: Step, condition: str, order: list[str], max_results: int = 1
) -> list[Run]:
    step_runs = [f"tags.{lineage.STEP} = '{step.run_name}'", "attributes.status = 'FINISHED'"]
    query = " and ".join([*step_runs, *filter(None, [condition])])
    return list(context.client.search_runs([context.experiment_id], query, max_results=max_results, order_by=order))


def _load_recorded_parts(run: Run) -> Parts:
    try:
        parts: Parts = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{FINGERPRINT_ARTIFACT}")
    except (MlflowException, OSError):
        return {}
    return parts


def build_tags(decision: Decision, context: StepContext) -> dict[str, str]:
    """Return the tags by which later pipelines find the run that is about to start."""
    external = json.dumps(_select_external(decision.parts), sort_keys=True)
    return {FINGERPRINT: decision.key, OUTSIDE: external, PURPOSE: context.purpose}
