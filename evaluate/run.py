"""evaluate: model_export + data/data_test.csv -> evaluation.json, plots, and verdict.json against the champion."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow.pyfunc import PyFuncModel

from evaluate.baselines import BaselineComparison, compare_with_baselines, read_baselines
from evaluate.champion_comparison import TestSplit, compare_with_champion, read_facts
from evaluate.credit import build_credit_sheet
from evaluate.fairness import measure_cost, measure_fairness, to_report
from evaluate.gate import judge_model
from evaluate.measure import Assessment, assess_model, build_report, compute_effects, get_values, make_bootstrap
from evaluate.periods import build_periods
from evaluate.plots import iter_plots
from evaluate.predictions import make_predict, measure_latency_ms, score_table
from evaluate.stability import build_stability, fetch_profile
from evaluate.verdict import Comparison, Facts, Measured, Verdict
from stepkit.model.metric_table import format_metric
from stepkit.paths import resolve_path
from stepkit.settings.evaluate import REASONS, VERDICT, read_evaluation
from stepkit.step.flags import make_step_parser
from stepkit.step.run import StepRun, step_run
from stepkit.store.champion import find_champion
from stepkit.store.lineage import make_artifact_uri

EVALUATION = "evaluation.json"


def log_metrics(assessed: Assessment, facts: Facts, model: PyFuncModel) -> None:
    """Log metrics and limits of intervals on the run, and the metrics on the logged model too, for its page."""
    values = {f"test_{name}": value for name, value in assessed.values.items()}
    extra = {"model_size_mb": facts.size_mb, "one_row_ms": facts.latency_ms}
    for name, interval in assessed.metrics.items():
        extra |= {f"test_{name}.low": interval.low, f"test_{name}.high": interval.high}
    mlflow.log_metrics(select_finite(values), model_id=model.metadata.model_id if model.metadata else None)
    mlflow.log_metrics(select_finite(extra))


def select_finite(values: dict[str, float]) -> dict[str, float]:
    """Return the values without NaN and infinity."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def format_summary(
    assessed: Assessment, verdict: Verdict, comparison: Comparison, baselines: BaselineComparison
) -> str:
    """Return one line: ROC AUC, the reasons of failed rules or the result of the comparison, and a warning."""
    compared = [rule.reason for rule in verdict.rules if rule.name.endswith("champion")]
    outcome = verdict.reasons or (compared[-1] if compared else f"not compared: {comparison.reason_not_needed}")
    auc = format_metric(assessed.values["roc_auc"])
    warning = baselines.explain_not_better({rule.name for rule in verdict.failed})
    return f"test ROC AUC {auc} on {len(assessed.scored):,} rows; {outcome}{warning and f'; warning: {warning}'}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    model = ("input_model_step", "input_model_run_id", "model_export", "model_name")
    flags = make_step_parser(__doc__, *model, "verdict", "random_seed", "evaluate_config", "replace_data_set")
    flags.add_argument("--input_data_step", required=True, help="step that published the test split")
    flags.add_argument("--input_data_run_id", default="", help="exact run of the test split; empty: the current run")
    flags.add_argument("--test_data", required=True, help="artifact with the test split")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        settings = read_evaluation(Path(resolve_path(run.fetch_if_artifact(args.evaluate_config))))
        source = run.get_source(args.input_data_step, args.input_data_run_id)
        table = run.read_table(args.input_data_step, args.test_data, source, context="testing")
        model_run = run.get_source(args.input_model_step, args.input_model_run_id)
        model = run.load_model(args.input_model_step, args.model_export, model_run)
        scored = score_table(model, table, run.columns)
        effects = compute_effects(model.unwrap_python_model(), table, run.columns, args.random_seed)
        assessed = assess_model(scored, table, make_predict(model), run.columns, settings, args.random_seed, effects)
        training = run.client.get_run(model_run).data
        facts = replace(read_facts(training), latency_ms=measure_latency_ms(model, table, run.columns))
        split = TestSplit(table, make_artifact_uri(source, args.test_data), scored)
        bootstrap, may_replace = make_bootstrap(settings, args.random_seed), args.replace_data_set == "true"
        champion = find_champion(run.client, args.model_name)
        comparison = compare_with_champion(run, champion, model_run, split, bootstrap, settings, may_replace)
        fitted = read_baselines(run, model_run, training)
        baselines = compare_with_baselines(fitted, table, run.columns, scored, settings.level)
        fairness = measure_fairness(scored, table, run.columns, settings.slices, settings.level)
        cost = measure_cost(run, model_run, training, table, scored, settings.level)
        measured = Measured(assessed.values, assessed.calibration, assessed.slices, facts, baselines, fairness)
        verdict = judge_model(measured, comparison, settings)
        threshold = training.metrics.get("threshold", math.nan)
        credit = build_credit_sheet(scored, assessed.metrics, threshold, settings.costs)
        report = build_report(assessed, threshold, settings, args.random_seed)
        profile = fetch_profile(run, model_run, training)
        stability = build_stability(profile, table, scored.probability, run.columns, settings.level)
        periods = build_periods(scored, table, run.columns, settings.slices, bootstrap)
        topics = {"credit": credit.to_report(), "stability": stability, "periods": periods, **baselines.to_report()}
        run.publish_json({**report, **comparison.to_report(), **topics, **to_report(fairness, cost)}, EVALUATION)
        publish_verdict(run, args.verdict, verdict, assessed, comparison)
        for name, figure in iter_plots(assessed, credit, threshold, run.columns):
            run.publish_figure(figure, name)
        log_metrics(assessed, facts, model)
        mlflow.set_tags({VERDICT: verdict.outcome, REASONS: verdict.reasons[:5000], **run.data_set.to_tags()})
        run.log_summary(format_summary(assessed, verdict, comparison, baselines))


def publish_verdict(run: StepRun, name: str, verdict: Verdict, assessed: Assessment, comparison: Comparison) -> None:
    """Publish the verdict with the metrics of the model and of the champion."""
    content = {
        **verdict.to_dict(),
        "champion_version": comparison.version or None,
        "metrics": assessed.values,
        "champion_metrics": get_values(comparison.metrics) or None,
        "data_set": str(run.data_set),
    }
    run.publish_json(content, name)


if __name__ == "__main__":
    main()
