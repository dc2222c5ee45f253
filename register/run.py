"""register: verdict.json + model_export -> a registered version, its tags, `challenger`, and `champion` if passed."""

from __future__ import annotations

import argparse
import json
from typing import Any

import mlflow
from mlflow.entities import Run

from register.champion_alias import LONGEST_TAG, Move, move_champion, set_alias
from register.promote import REASON_TAG
from stepkit.errors import ChampionMoved, VerdictUnfit
from stepkit.step.flags import make_step_parser
from stepkit.step.run import StepRun, step_run
from stepkit.store.champion import CHALLENGER, CHAMPION, THE_GATE, WITHDRAWN, find_champion, find_other_data_set
from stepkit.store.lineage import (
    BECAUSE,
    INPUT,
    OUTPUT,
    find_data_set,
    find_run,
    iter_lineage,
    make_artifact_uri,
    parse_run_id,
    read_inputs,
)


def promote_if_passed(
    run: StepRun, name: str, version: str, model_run: str, verdict: dict[str, Any], replace: bool
) -> str:
    """Make the version champion if the verdict says so; return "", or why it is not champion."""
    if not verdict["passed"]:
        return str(verdict["reasons"])
    same = run.client.search_model_versions(f"name='{name}' and run_id='{model_run}'")
    if taken := next((one for one in same if WITHDRAWN in one.tags), None):
        # a pipeline does not undo what a person did
        return f"the same model was withdrawn as version {taken.version}: {taken.tags[WITHDRAWN]}"
    champion = find_champion(run.client, name)
    other = champion and find_other_data_set(run.client, champion, find_data_set(run.client, model_run), replace)
    if other and not other.why_replaceable:
        return f"{other.words}. To replace it: replace_data_set=true"
    move = Move(THE_GATE, f"verdict of pipeline {get_pipeline_run_id(run)}")
    try:
        move_champion(run.client, name, version, verdict["champion_version"] or "", move)
    except ChampionMoved as error:
        return str(error)
    return ""


def get_pipeline_run_id(run: StepRun) -> str:
    return str(run.client.get_run(run.run_id).data.tags.get("mlflow.parentRunId", run.run_id))


def find_origin_tags(run: StepRun, pipeline: dict[str, str], training: Run) -> dict[str, str]:
    """Return the tags of the download behind the model: this pipeline's own, else that of its lineage, or {}."""
    own = find_run(run.client, pipeline.get("step.download", "")) if "step.segregate" in pipeline else None
    lineage = (one for one in iter_lineage(run.client, training.info.run_id) if "source_url" in one.data.tags)
    found = own or next(lineage, None)
    return dict(found.data.tags) if found else {}


def build_version_tags(run: StepRun, training: Run, verdict: dict[str, Any]) -> dict[str, str]:
    """Return the tags of the version: pipeline run, data, commit, and how it did."""
    train_name, train_address = next(iter(read_inputs(training).items()))
    segregate = find_run(run.client, parse_run_id(train_address))
    pipeline = get_pipeline_run_id(run)
    asked_for = run.client.get_run(pipeline).data.tags
    origin = find_origin_tags(run, asked_for, training)
    failed = {rule["name"]: rule["reason"] for rule in verdict["rules"] if not rule["passed"]}
    return {
        **{name: text for name, text in asked_for.items() if name.startswith(BECAUSE)},
        "pipeline_run_id": pipeline,
        "training_run_id": training.info.run_id,
        **find_data_set(run.client, training.info.run_id).tags(),
        "data": origin.get("data_description", ""),
        "data_source": origin.get("source_url", "unknown"),
        "data_digest": segregate.data.tags.get(OUTPUT + train_name, "unknown") if segregate else "unknown",
        "test_auc": format_value(verdict["metrics"]["roc_auc"], 6),
        "git_commit": run.client.get_run(run.run_id).data.tags.get("mlflow.source.git.commit", "unknown"),
        "verdict": verdict["outcome"],
        **{REASON_TAG + rule: reason[:LONGEST_TAG] for rule, reason in failed.items()},
    }


def format_value(value: float | None, digits: int = 4) -> str:
    """Return a metric as text; some cannot be computed, as where the test split holds one class only."""
    return "not computed" if value is None else f"{value:.{digits}f}"


def format_description(training: Run, verdict: dict[str, Any], tags: dict[str, str]) -> str:
    """Return a few sentences about a version."""
    found = verdict["metrics"]
    return (
        f"Random forest, trained on {tags['data_source']}: {tags['data'] or 'not described'}.\n\n"
        f"Test split: ROC AUC {format_value(found['roc_auc'])}, average precision {format_value(found['average_precision'])}, "
        f"precision {format_value(found['precision'])} and recall {format_value(found['recall'])} at the model's threshold. "
        f"Validation AUC {training.data.metrics['val_roc_auc']:.4f}.\n\n"
        f"Verdict: {tags['verdict'].replace('_', ' ')}{': ' if verdict['reasons'] else ''}{verdict['reasons']}.\n\n"
        "Takes raw rows (missing values and unknown codes are legal) and answers with `probability` and `class`."
    )


def make_parser() -> argparse.ArgumentParser:
    model = ("input_model_step", "input_model_run_id", "model_export", "model_name")
    flags = make_step_parser(__doc__, *model, "verdict", "replace_data_set")
    flags.add_argument("--input_verdict_step", required=True, help="step that published the verdict")
    flags.add_argument("--input_verdict_run_id", default="", help="exact run of the verdict; empty: the current one")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        verdict_run = run.get_source(args.input_verdict_step, args.input_verdict_run_id)
        verdict = json.loads(run.fetch(verdict_run, args.verdict).read_text(encoding="utf-8"))
        model_run = run.get_source(args.input_model_step, args.input_model_run_id)
        name, address = args.model_name, make_artifact_uri(model_run, args.model_export)
        judged = read_inputs(run.client.get_run(verdict_run)).get(args.model_export)
        if judged != address:
            raise VerdictUnfit(
                f"the verdict of run {verdict_run} is about {judged}, not about the model of run {model_run}. "
                "Run evaluate again, then register."
            )
        run.client.set_tag(run.run_id, INPUT + args.model_export, address)
        training = run.client.get_run(model_run)
        tags = build_version_tags(run, training, verdict)
        version = str(mlflow.register_model(address, name, tags=tags).version)
        run.client.update_model_version(name, version, format_description(training, verdict, tags))
        set_alias(run.client, name, CHALLENGER, version)
        why_not = promote_if_passed(run, name, version, model_run, verdict, args.replace_data_set == "true")
        mlflow.set_tags({"model_name": name, "model_version": version})
        place = f"{CHALLENGER}; {why_not}" if why_not else f"{CHALLENGER} and {CHAMPION}"
        run.log_summary(f"{name} version {version} is {place}")


if __name__ == "__main__":
    main()
