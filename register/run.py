"""register: verdict.json + model_export -> a registered version with tags, `challenger`, and `champion` if passed."""

from __future__ import annotations

import argparse
import json
from typing import Any

import mlflow
from mlflow.entities import Run

from register.champion_alias import LONGEST_TAG, Move, move_champion, set_alias
from stepkit.errors import ChampionMoved, VerdictUnfit
from stepkit.model.metric_table import format_metric
from stepkit.settings.model import CALIBRATED, CALIBRATION, NOT_CALIBRATED
from stepkit.step.flags import make_step_parser
from stepkit.step.run import StepRun, step_run
from stepkit.store.champion import (
    CHALLENGER,
    CHAMPION,
    REASON_TAG,
    THE_GATE,
    WITHDRAWN,
    find_champion,
    find_other_data_set,
)
from stepkit.store.lineage import (
    BECAUSE,
    INPUT,
    LOCK_DIGEST,
    OUTPUT,
    STEP,
    find_data_set,
    find_run,
    iter_lineage,
    make_artifact_uri,
    parse_run_id,
    read_inputs,
)
from stepkit.words import format_kind


def promote_if_passed(
    run: StepRun, name: str, version: str, model_run: str, verdict: dict[str, Any], replace: bool
) -> str:
    """Make the version champion if its verdict is passed; return "", or the reason why it is not champion."""
    if not verdict["passed"]:
        return str(verdict["reasons"])
    versions = run.client.search_model_versions(f"name='{name}' and run_id='{model_run}'")
    if withdrawn := next((version for version in versions if WITHDRAWN in version.tags), None):
        # A pipeline never promotes a model that a user withdrew by hand.
        return f"the same model was withdrawn by hand as version {withdrawn.version} ({withdrawn.tags[WITHDRAWN]})"
    champion = find_champion(run.client, name)
    other_data_set = champion and find_other_data_set(
        run.client, champion, find_data_set(run.client, model_run), replace
    )
    if other_data_set and not other_data_set.why_replaceable:
        return f"{other_data_set.words}. To replace it: register.replace_data_set=true"
    failed = ", ".join(rule["name"] for rule in verdict.get("champion_failed", []))
    why = f"verdict of pipeline {get_pipeline_run_id(run)}{failed and f' (the old champion fails {failed})'}"
    try:
        move_champion(run.client, name, version, verdict["champion_version"] or "", Move(THE_GATE, why))
    except ChampionMoved as error:
        return str(error)
    return ""


def get_pipeline_run_id(run: StepRun) -> str:
    """Return the id of the pipeline run, or of this run if there is none."""
    return str(run.client.get_run(run.run_id).data.tags.get("mlflow.parentRunId", run.run_id))


def find_origin_tags(run: StepRun, pipeline: dict[str, str], training: Run) -> dict[str, str]:
    """Return the tags of the download run of this pipeline, else of the model's lineage; {} if there is none."""
    download = find_run(run.client, pipeline.get("step.download", "")) if "step.segregate" in pipeline else None
    lineage = iter_lineage(run.client, training.info.run_id)
    download = download or next((upstream for upstream in lineage if "source_url" in upstream.data.tags), None)
    return dict(download.data.tags) if download else {}


def build_version_tags(run: StepRun, training: Run, verdict: dict[str, Any]) -> dict[str, str]:
    """Return the tags of the version: pipeline run, data, commit, verdict, and reasons of failed rules."""
    train_name, train_uri = next(iter(read_inputs(training).items()))
    segregate = find_run(run.client, parse_run_id(train_uri))
    pipeline = get_pipeline_run_id(run)
    pipeline_tags = run.client.get_run(pipeline).data.tags
    origin = find_origin_tags(run, pipeline_tags, training)
    failed = {rule["name"]: rule["reason"] for rule in verdict["rules"] if not rule["passed"]}
    return {
        **{name: text for name, text in pipeline_tags.items() if name.startswith(BECAUSE)},
        "pipeline_run_id": pipeline,
        "training_run_id": training.info.run_id,
        **find_data_set(run.client, training.info.run_id).to_tags(),
        "data": origin.get("data_description", ""),
        "data_source": origin.get("source_url", "unknown"),
        "data_digest": segregate.data.tags.get(OUTPUT + train_name, "unknown") if segregate else "unknown",
        "test_auc": format_metric(verdict["metrics"]["roc_auc"], 6),
        "git_commit": run.client.get_run(run.run_id).data.tags.get("mlflow.source.git.commit", "unknown"),
        LOCK_DIGEST: training.data.tags.get(LOCK_DIGEST, "unknown"),
        "verdict": verdict["outcome"],
        CALIBRATION: training.data.tags.get(CALIBRATION, NOT_CALIBRATED),
        **{REASON_TAG + rule: reason[:LONGEST_TAG] for rule, reason in failed.items()},
    }


def describe_calibration(tags: dict[str, str]) -> str:
    """Return the calibration of a version in words, from its tags."""
    calibration = tags.get(CALIBRATION, "")
    return f"calibrated, {calibration}" if calibration in CALIBRATED else "not calibrated"


def format_description(training: Run, verdict: dict[str, Any], tags: dict[str, str]) -> str:
    """Return the description of a version, shown on its page in MLflow."""
    names = ("roc_auc", "average_precision", "precision", "recall")
    roc_auc, average_precision, precision, recall = (format_metric(verdict["metrics"][name]) for name in names)
    kind = format_kind(training.data.tags[STEP])
    return (
        f"{kind}, trained on {tags['data_source']}: {tags['data'] or 'no description'}.\n\n"
        f"Test split: ROC AUC {roc_auc}, average precision {average_precision}; at the model's threshold, precision "
        f"{precision} and recall {recall}. Validation ROC AUC {training.data.metrics['val_roc_auc']:.4f}.\n\n"
        f"Verdict: {tags['verdict'].replace('_', ' ')}{': ' if verdict['reasons'] else ''}{verdict['reasons']}.\n\n"
        "Input: raw rows, in which values may be missing and codes unknown. Output: `probability` "
        f"({describe_calibration(tags)}) and `class`."
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    model = ("input_model_step", "input_model_run_id", "model_export", "model_name")
    flags = make_step_parser(__doc__, *model, "verdict", "replace_data_set")
    flags.add_argument("--input_verdict_step", required=True, help="step that published the verdict")
    flags.add_argument("--input_verdict_run_id", default="", help="exact run of the verdict; empty: the current run")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        verdict_run = run.get_source(args.input_verdict_step, args.input_verdict_run_id)
        verdict = json.loads(run.fetch(verdict_run, args.verdict).read_text(encoding="utf-8"))
        model_run = run.get_source(args.input_model_step, args.input_model_run_id)
        name, model_uri = args.model_name, make_artifact_uri(model_run, args.model_export)
        judged = read_inputs(run.client.get_run(verdict_run)).get(args.model_export)
        if judged != model_uri:
            raise VerdictUnfit(
                f"{args.verdict} of run {verdict_run}: the verdict is about another model (found {judged}, expected "
                f"{model_uri}). Run evaluate again, then register."
            )
        run.client.set_tag(run.run_id, INPUT + args.model_export, model_uri)
        training = run.client.get_run(model_run)
        tags = build_version_tags(run, training, verdict)
        version = str(mlflow.register_model(model_uri, name, tags=tags).version)
        run.client.update_model_version(name, version, format_description(training, verdict, tags))
        set_alias(run.client, name, CHALLENGER, version)
        reason = promote_if_passed(run, name, version, model_run, verdict, args.replace_data_set == "true")
        mlflow.set_tags({"model_name": name, "model_version": version})
        aliases = f"{CHALLENGER}, not {CHAMPION}: {reason}" if reason else f"{CHALLENGER} and {CHAMPION}"
        run.log_summary(f"{name} version {version} is {aliases}")


if __name__ == "__main__":
    main()
