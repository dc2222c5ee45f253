"""check_data: reference + sample -> data tests (types, classes, known codes, Kolmogorov-Smirnov) and their tables."""

from __future__ import annotations

import argparse
from pathlib import Path

import mlflow
import pandas as pd

from check_data.checks import Checked, run_checks
from check_data.ks import as_table
from stepkit import tables
from stepkit.args import share, step_parser
from stepkit.champion import champion_of, why_not_comparable
from stepkit.errors import BadParameter, DataCheckFailed, UpstreamMissing
from stepkit.lineage import address_of, artifact_of, digest_of, find_upstream, run_of
from stepkit.run import StepRun, step_run
from stepkit.tracking import from_root


def reference_address(run: StepRun, sample: str, reference: str, model_name: str) -> tuple[str, str]:
    """Return where the reference is and "", or "" and the reason why there is none.

    Args:
        sample: address of the sample (runs:/ID/NAME).
        reference: an address (runs:/ID/NAME or a path), taken as it is, or a plain name, looked up behind the champion.

    Raises:
        BadParameter: an address of another kind, or of nothing.
        UpstreamMissing: the champion was trained without such an artifact.
    """
    if reference.startswith("runs:/"):
        return reference, ""
    if Path(from_root(reference)).is_file():
        return from_root(reference), ""
    if "://" in reference or Path(reference).is_absolute():
        raise BadParameter(
            f"no reference at '{reference}'. Set data.reference_dataset to an artifact's address (runs:/ID/NAME), or "
            "to the path of a file."
        )
    champion = champion_of(run.client, model_name)
    reason = why_not_comparable(run.client, champion, run_of(sample))
    if champion is None or reason:
        return "", f"no reference: {reason}"
    holder = find_upstream(run.client, str(champion.run_id), reference)
    if holder is None:
        raise UpstreamMissing(
            f"the champion (version {champion.version}, run {champion.run_id}) was trained without an artifact "
            f"'{reference}'. Pin a reference instead: data.reference_dataset=runs:/ID/NAME."
        )
    address = address_of(holder, reference)
    if digest_of(run.client, address) == digest_of(run.client, sample):
        return "", f"no reference: the champion (version {champion.version}) was trained on this very data"
    return address, ""


def read_reference(run: StepRun, address: str) -> pd.DataFrame:
    path = run.fetch(run_of(address), artifact_of(address)) if address.startswith("runs:/") else Path(address)
    reference = tables.read_table(path, text=run.columns.text)
    run.log_dataset(reference, path.name, tables.sha256_of(path), address, context="reference")
    return reference


def publish(run: StepRun, checked: Checked) -> None:
    run.publish_text(pd.DataFrame(checked.outcomes).to_csv(index=False), "data_checks.csv")
    if checked.results:
        run.publish_text(as_table(checked.results).to_csv(index=False), "ks_statistics.csv")
    if not checked.offending_rows.empty:
        run.publish_text(checked.offending_rows.to_csv(index=False), "offending_rows.csv")
    counts = pd.Series([outcome["outcome"] for outcome in checked.outcomes]).value_counts()
    mlflow.log_metrics({f"checks_{name}": float(counts.get(name, 0)) for name in ("passed", "failed", "skipped")})


def complaint(checked: Checked, most: int = 12) -> str:
    """What failed, one line per check, then example rows."""
    failures = checked.failures
    lines = [f"  {failure['check']}: {failure['detail']}" for failure in failures[:most]]
    if len(failures) > most:
        lines.append(f"  and {len(failures) - most} more, in data_checks.csv")
    if not checked.offending_rows.empty:
        lines += [
            "  example rows (more in offending_rows.csv):",
            checked.offending_rows.head(most).to_string(index=False),
        ]
    return f"{len(failures)} of {len(checked.outcomes)} data checks failed\n" + "\n".join(lines)


def summary(checked: Checked) -> str:
    passed = sum(outcome["outcome"] == "passed" for outcome in checked.outcomes)
    ks = checked.no_reference and f"; KS skipped: {checked.no_reference}"
    if checked.results:
        worst = max(checked.results, key=lambda result: result.statistic)
        ks = f"; largest KS distance {worst.statistic:.4f} ({worst.column})"
    return f"{passed} data checks passed{ks}"


def parser() -> argparse.ArgumentParser:
    flags = step_parser(__doc__, "input_step", "input_run_id")
    flags.add_argument("--sample_artifact", required=True, help="artifact of input_step to check")
    flags.add_argument(
        "--reference_artifact",
        required=True,
        help="what it is compared with: the artifact of this name behind the current champion, or an address",
    )
    flags.add_argument("--ks_alpha", type=share, default=0.05, help="family-wise error rate of the KS tests")
    flags.add_argument("--model_name", default="credit_default", help="registered model whose champion is meant")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with step_run(args) as run:
        source = run.source(args.input_step, args.input_run_id)
        sample = run.read_table(args.input_step, args.sample_artifact, source, context="sample")
        here = address_of(source, args.sample_artifact)
        address, reason = reference_address(run, here, args.reference_artifact, args.model_name)
        reference = read_reference(run, address) if address else None
        checked = run_checks(Checked(sample, run.columns, reference, reason, args.ks_alpha))
        publish(run, checked)
        if checked.failures:
            raise DataCheckFailed(complaint(checked))
        run.say(summary(checked))


if __name__ == "__main__":
    main()
