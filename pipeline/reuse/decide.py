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
from pipeline.external_state import ITSELF, Around
from pipeline.reuse.fingerprint import INPUT, OUTSIDE, PARAMETER, Parts, code_parts, differences, flat, key_of
from pipeline.steps import Step, chosen_steps
from pipeline.tags import FINGERPRINT, FINGERPRINT_ARTIFACT, PURPOSE
from stepkit.paths import artifact_path
from stepkit.store import lineage
from stepkit.store.model_files import differences as model_differences
from stepkit.store.model_files import digests_in, fetch_model
from stepkit.table import tables

SOURCE = f"{OUTSIDE}:source"
MOST_REASONS = 3
MOST_CANDIDATES = 5


@dataclass(frozen=True)
class Decision:
    """The run that did the work already, or None and why the step runs ("" for the first time)."""

    parts: Parts
    run: Run | None = None
    why: str = ""

    @property
    def key(self) -> str:
        return key_of(self.parts)


def decide(around: Around, step: Step, experiment_id: str) -> Decision:
    """Look for a finished run of `step` that may stand for a new one.

    Args:
        around: with the runs of all steps that this one reads.

    Raises:
        MlflowException: the tracking server does not answer.
    """
    parts = fingerprint(around, step)
    if off := why_off(around.config.main, step):
        return Decision(parts, why=off)
    problems = []
    for run in _runs(around.client, experiment_id, step, key_of(parts)):
        problem = why_not(around, step, run, parts)
        if not problem:
            return Decision(parts, run)
        problems.append(problem)
    return Decision(parts, why=problems[0] if problems else why_again(around, step, experiment_id, parts))


def why_off(main: Main, step: Step) -> str:
    if step in chosen_steps(main.rerun):
        return "main.rerun names it"
    return "" if main.reuse else "main.reuse is false"


def fingerprint(around: Around, step: Step) -> Parts:
    """Return what the result of `step` depends on: code, parameters, inputs, and what lies outside of a run."""
    parameters = {
        name: value for name, value in step.parameters(around.config, "").items() if name not in step.contents
    }
    for contents in step.contents.values():
        parameters |= flat(contents(around.config))
    inputs = {artifact: text for name in set(step.reads.values()) for artifact, text in _outputs(around, name).items()}
    named = {PARAMETER: parameters, INPUT: inputs, OUTSIDE: step.outside(around)}
    return code_parts(step.name, *step.packs) | {
        f"{kind}:{name}": text for kind in named for name, text in named[kind].items()
    }


def _outputs(around: Around, name: str) -> dict[str, str]:
    """The digest of each artifact that the run of an earlier step has published; of a model, which one it is."""
    tags = around.client.get_run(around.done[name]).data.tags
    found = {
        f"{key.removeprefix(lineage.OUTPUT)} of {name}": text
        for key, text in tags.items()
        if key.startswith(lineage.OUTPUT)
    }
    return found | ({f"model of {name}": tags[lineage.MODEL_ID]} if lineage.MODEL_ID in tags else {})


def why_not(around: Around, step: Step, run: Run, parts: Parts) -> str:
    """Return why a run with the same fingerprint cannot stand for a new one, or ""."""
    if lineage.DAMAGED in run.data.tags:
        return f"its artifact {run.data.tags[lineage.DAMAGED]} was found missing or altered"
    return outside_changed(around, run, parts) or step.why_undone(around, run) or why_not_intact(around.client, run)


def outside_changed(around: Around, run: Run, parts: Parts) -> str:
    """Return what changed outside since `run`, or ""."""
    before = json.loads(run.data.tags.get(OUTSIDE, "{}"))
    now = _outside(parts)
    if now.get(SOURCE) == "":
        of_this_sweep = 0 < around.since <= run.info.start_time
        return "" if of_this_sweep else "its source names neither ETag nor time of change"
    if now.get(f"{OUTSIDE}:champion") == ITSELF and run.data.tags.get("verdict") == "passed":
        return ""  # it is this verdict that made the model champion
    return "; ".join(differences(before, now))


def _outside(parts: Parts) -> Parts:
    return {name: text for name, text in parts.items() if name.startswith(OUTSIDE)}


def why_not_intact(client: MlflowClient, run: Run) -> str:
    """Return which artifact of a run is deleted, truncated or cannot be reached, or ""."""
    try:
        return next(_losses(client, run), "")
    except (MlflowException, OSError) as error:
        return f"its artifacts cannot be listed ({type(error).__name__}: {str(error)[:120]})"


def _losses(client: MlflowClient, run: Run) -> Iterator[str]:
    tags = run.data.tags
    sizes = {key.removeprefix(lineage.SIZE): int(text) for key, text in tags.items() if key.startswith(lineage.SIZE)}
    found = _sizes(client, run.info.run_id, {str(Path(name).parent) for name in sizes})
    yield from _compared(sizes, found)
    if lineage.MODEL_ID in tags:
        yield from (f"its artifact {words}" for words in _model_differences(client, tags))
    yield from _altered(run)


def _model_differences(client: MlflowClient, tags: dict[str, str]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        now = digests_in(fetch_model(client, tags[lineage.MODEL_ID], Path(folder)))
    return model_differences(json.loads(tags.get(lineage.MODEL_DIGESTS, "{}")), now)


def _sizes(client: MlflowClient, run_id: str, folders: set[str]) -> dict[str, int]:
    listed = [entry for folder in folders for entry in client.list_artifacts(run_id, "" if folder == "." else folder)]
    return {entry.path: int(entry.file_size or 0) for entry in listed if not entry.is_dir}


def _compared(expected: dict[str, int], found: dict[str, int]) -> Iterator[str]:
    for name, size in expected.items():
        if name not in found:
            yield f"its artifact {name} is gone"
        elif found[name] != size:
            yield f"its artifact {name} has {found[name]:,} bytes instead of {size:,}"


def _altered(run: Run) -> Iterator[str]:
    """Where the artifacts lie on this machine, compare what is in them too; elsewhere the step that reads them does."""
    folder = artifact_path(run.info.artifact_uri)
    if folder is None:
        return
    for name in lineage.published_by(run):
        path, recorded = folder / name, run.data.tags[lineage.OUTPUT + name]
        if path.is_symlink() or f"sha256:{tables.sha256_of(path)}" != recorded:
            yield f"its artifact {name} was altered"


def why_again(around: Around, step: Step, experiment_id: str, parts: Parts) -> str:
    """Return in words what changed since the step last ran for this data set and model; "" if it never ran."""
    purpose = around.purpose
    alike = _last(around.client, experiment_id, step, f" and tags.{PURPOSE} = '{purpose}'")
    run = alike or _last(around.client, experiment_id, step)
    if run is None:
        return ""
    if run.data.tags.get(PURPOSE, purpose) != purpose:  # an earlier release did not note it
        return f"first run of this data set for {around.config.register_.model_name}"
    before = _recorded(run)
    changed = differences(before, parts) if before else ["what it ran with is not known"]
    more = f" and {len(changed) - MOST_REASONS} more" if len(changed) > MOST_REASONS else ""
    return ", ".join(changed[:MOST_REASONS]) + more


def _last(client: MlflowClient, experiment_id: str, step: Step, more: str = "") -> Run | None:
    """The finished run of `step` that was made or reused last."""
    chosen = f"tags.{lineage.STEP} = '{step.run_name}' and attributes.status = 'FINISHED'{more}"
    order = [f"tags.{lineage.CURRENT_SINCE} DESC", *lineage.NEWEST_FIRST]
    return next(iter(client.search_runs([experiment_id], chosen, max_results=1, order_by=order)), None)


def _recorded(run: Run) -> Parts:
    try:
        parts: Parts = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{FINGERPRINT_ARTIFACT}")
    except (MlflowException, OSError):
        return {}
    return parts


def _runs(client: MlflowClient, experiment_id: str, step: Step, key: str) -> list[Run]:
    """The newest finished runs of `step` with this fingerprint."""
    chosen = f"tags.{lineage.STEP} = '{step.run_name}' and tags.{FINGERPRINT} = '{key}'"
    finished = f"{chosen} and attributes.status = 'FINISHED'"
    order = lineage.NEWEST_FIRST
    return list(client.search_runs([experiment_id], finished, max_results=MOST_CANDIDATES, order_by=order))


def tags_of(decision: Decision, around: Around) -> dict[str, str]:
    """The tags by which the run that is about to start will be found again."""
    outside = json.dumps(_outside(decision.parts), sort_keys=True)
    return {FINGERPRINT: decision.key, OUTSIDE: outside, PURPOSE: around.purpose}
