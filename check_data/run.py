"""check_data: sample + reference -> results of the data tests (types, classes, known values, Kolmogorov-Smirnov)."""

from __future__ import annotations

import argparse
from pathlib import Path

import mlflow
import pandas as pd

from check_data.checks import DataChecks, run_checks
from check_data.rules import RULES
from stepkit.errors import ArtifactDamaged, ArtifactMissing, DataCheckFailed
from stepkit.model.single_column import (
    Suspicion,
    compute_column_aucs,
    explain_suspicions,
    find_suspicions,
)
from stepkit.step.flags import make_step_parser, parse_share
from stepkit.step.run import StepRun, step_run
from stepkit.store.lineage import make_artifact_uri, parse_artifact_name, parse_run_id
from stepkit.store.reference import WITHOUT_REFERENCE, find_reference
from stepkit.table import tables
from stepkit.table.columns import Columns
from stepkit.table.labels import to_known_labels

LEAKAGE = "leakage.csv"
"""Artifact with the columns that alone rank the rows suspiciously well, if there are any."""


def read_reference(run: StepRun, uri: str) -> pd.DataFrame:
    """Return the reference at a path or runs:/ID/NAME, and log it as a dataset of the run.

    Raises:
        ArtifactMissing: the artifact is not in the store.
        ArtifactDamaged: the artifact was altered.
    """
    path = Path(uri)
    try:
        if uri.startswith("runs:/"):
            # Not recorded as an input, because it would replace the sample, which has the same name.
            path = run.fetch(parse_run_id(uri), parse_artifact_name(uri), record=False)
    except (ArtifactMissing, ArtifactDamaged) as error:
        # "Run preprocess again" does not help: a new run would not restore the training data of the champion.
        raise type(error)(f"reference: {str(error).partition(' Run ')[0]} {WITHOUT_REFERENCE}") from error
    reference = tables.read_table(path, text=run.columns.text)
    run.log_dataset(reference, path.name, tables.compute_sha256(path), uri, context="reference")
    return reference


def publish_results(run: StepRun, checked: DataChecks) -> None:
    """Publish the outcomes, KS statistics and offending rows as CSV, and log the numbers of outcomes."""
    run.publish_text(pd.DataFrame(checked.outcomes).to_csv(index=False), "data_checks.csv")
    if checked.results:
        table = pd.DataFrame(checked.results).sort_values("statistic", ascending=False)
        run.publish_text(table.to_csv(index=False), "ks_statistics.csv")
    if not checked.offending_rows.empty:
        run.publish_text(checked.offending_rows.to_csv(index=False), "offending_rows.csv")
    counts = pd.Series([outcome["outcome"] for outcome in checked.outcomes]).value_counts()
    mlflow.log_metrics({f"checks_{name}": float(counts.get(name, 0)) for name in ("passed", "failed", "skipped")})


def format_failures(checked: DataChecks, most: int = 12) -> str:
    """Return one line per failed check, the next steps, and example rows."""
    failures = checked.failures
    lines = [f"  {failure['check']}: {failure['detail']}" for failure in failures[:most]]
    if len(failures) > most:
        lines.append(f"  and {len(failures) - most} more failures in data_checks.csv")
    broken_rules = {failure["check"].rpartition(": ")[2] for failure in failures}
    if broken_rules & set(RULES):
        lines.append(f"  Correct the table, or these columns in the description of data set {checked.columns.name}.")
    if "distribution" in broken_rules:
        lines.append(f"  If the new distribution is correct, for example after drift: {WITHOUT_REFERENCE}")
    if not checked.offending_rows.empty:
        rows = checked.offending_rows.head(most).to_string(index=False)
        lines += ["  example rows, counted from 0 (more in offending_rows.csv):", rows]
    return f"{len(failures)} of {len(checked.outcomes)} data checks failed\n" + "\n".join(lines)


def find_leaking_columns(sample: pd.DataFrame, columns: Columns) -> list[Suspicion]:
    """Return the columns that alone rank the rows suspiciously well."""
    labels = to_known_labels(sample[columns.target], columns)
    return find_suspicions(compute_column_aucs(sample, columns, labels, columns.names), columns)


def format_summary(checked: DataChecks, suspicions: list[Suspicion]) -> str:
    """Return the number of passed checks, the result of the KS tests, and a warning of leakage."""
    passed = sum(outcome["outcome"] == "passed" for outcome in checked.outcomes)
    ks = checked.no_reference and f"; KS tests skipped ({checked.no_reference})"
    if checked.results:
        worst = max(checked.results, key=lambda result: result.statistic)
        ks = f"; largest KS distance {worst.statistic:.4f} ({worst.column})"
    leakage = explain_suspicions(suspicions)
    return f"{passed} data checks passed{ks}{leakage and f'; warning: {leakage}'}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    flags = make_step_parser(__doc__, "input_step", "input_run_id", "model_name")
    flags.add_argument("--sample_artifact", required=True, help="artifact of input_step to check")
    flags.add_argument(
        "--reference_artifact",
        required=True,
        help="reference: artifact name in the champion's lineage, runs:/ID/NAME, path, or none",
    )
    flags.add_argument("--ks_alpha", type=parse_share, default=0.05, help="family-wise error rate of the KS tests")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        source = run.get_source(args.input_step, args.input_run_id)
        sample = run.read_table(args.input_step, args.sample_artifact, source, context="sample")
        sample_uri = make_artifact_uri(source, args.sample_artifact)
        uri, reason = find_reference(run.client, sample_uri, args.reference_artifact, args.model_name)
        reference = read_reference(run, uri) if uri else None
        checked = run_checks(DataChecks(sample, run.columns, reference, reason, args.ks_alpha))
        publish_results(run, checked)
        if checked.failures:
            raise DataCheckFailed(format_failures(checked))
        suspicions = find_leaking_columns(sample, run.columns)
        if suspicions:
            run.publish_text(pd.DataFrame(suspicions).to_csv(index=False), LEAKAGE)
        run.log_summary(format_summary(checked, suspicions))


if __name__ == "__main__":
    main()
