"""check_data: reference + sample -> data tests (types, classes, known codes, Kolmogorov-Smirnov) and their tables."""

from __future__ import annotations

import argparse
from pathlib import Path

import mlflow
import pandas as pd

from check_data.checks import DataChecks, run_checks
from stepkit.errors import ArtifactDamaged, ArtifactMissing, DataCheckFailed
from stepkit.step.flags import make_step_parser, parse_share
from stepkit.step.run import StepRun, step_run
from stepkit.store.lineage import make_artifact_uri, parse_artifact_name, parse_run_id
from stepkit.store.reference import WITHOUT_REFERENCE, find_reference
from stepkit.table import tables


def read_reference(run: StepRun, address: str) -> pd.DataFrame:
    path = Path(address)
    try:
        if address.startswith("runs:/"):
            # its dataset is on record; as an input it would take the place of the sample, which has the same name
            path = run.fetch(parse_run_id(address), parse_artifact_name(address), record=False)
    except (ArtifactMissing, ArtifactDamaged) as error:
        # a new run of that step would not restore the rows that the champion was trained on
        raise type(error)(f"the reference: {str(error).partition(' Run ')[0]} {WITHOUT_REFERENCE}") from error
    reference = tables.read_table(path, text=run.columns.text)
    run.log_dataset(reference, path.name, tables.compute_sha256(path), address, context="reference")
    return reference


def publish_results(run: StepRun, checked: DataChecks) -> None:
    run.publish_text(pd.DataFrame(checked.outcomes).to_csv(index=False), "data_checks.csv")
    if checked.results:
        table = pd.DataFrame(checked.results).sort_values("statistic", ascending=False)
        run.publish_text(table.to_csv(index=False), "ks_statistics.csv")
    if not checked.offending_rows.empty:
        run.publish_text(checked.offending_rows.to_csv(index=False), "offending_rows.csv")
    counts = pd.Series([outcome["outcome"] for outcome in checked.outcomes]).value_counts()
    mlflow.log_metrics({f"checks_{name}": float(counts.get(name, 0)) for name in ("passed", "failed", "skipped")})


def format_failures(checked: DataChecks, most: int = 12) -> str:
    """Return the failures, one line per check, then example rows."""
    failures = checked.failures
    lines = [f"  {failure['check']}: {failure['detail']}" for failure in failures[:most]]
    if len(failures) > most:
        lines.append(f"  and {len(failures) - most} more, in data_checks.csv")
    if any(failure["check"].endswith(": distribution") for failure in failures):
        lines.append(f"  The data changed and are right, as after drift? {WITHOUT_REFERENCE}")
    if not checked.offending_rows.empty:
        rows = checked.offending_rows.head(most).to_string(index=False)
        lines += ["  example rows (more in offending_rows.csv):", rows]
    return f"{len(failures)} of {len(checked.outcomes)} data checks failed\n" + "\n".join(lines)


def format_summary(checked: DataChecks) -> str:
    passed = sum(outcome["outcome"] == "passed" for outcome in checked.outcomes)
    ks = checked.no_reference and f"; KS skipped: {checked.no_reference}"
    if checked.results:
        worst = max(checked.results, key=lambda result: result.statistic)
        ks = f"; largest KS distance {worst.statistic:.4f} ({worst.column})"
    return f"{passed} data checks passed{ks}"


def make_parser() -> argparse.ArgumentParser:
    flags = make_step_parser(__doc__, "input_step", "input_run_id", "model_name")
    flags.add_argument("--sample_artifact", required=True, help="artifact of input_step to check")
    flags.add_argument(
        "--reference_artifact",
        required=True,
        help="what it is compared with: the artifact of this name behind the current champion, or an address",
    )
    flags.add_argument("--ks_alpha", type=parse_share, default=0.05, help="family-wise error rate of the KS tests")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with step_run(args) as run:
        source = run.get_source(args.input_step, args.input_run_id)
        sample = run.read_table(args.input_step, args.sample_artifact, source, context="sample")
        here = make_artifact_uri(source, args.sample_artifact)
        address, reason = find_reference(run.client, here, args.reference_artifact, args.model_name)
        reference = read_reference(run, address) if address else None
        checked = run_checks(DataChecks(sample, run.columns, reference, reason, args.ks_alpha))
        publish_results(run, checked)
        if checked.failures:
            raise DataCheckFailed(format_failures(checked))
        run.log_summary(format_summary(checked))


if __name__ == "__main__":
    main()
