"""sample_fidelity: data/sample.csv.gz and the real table -> a table of their differences.

The exit status is 1 if a limit is exceeded.

Run from the repository root: PYTHONPATH=. python benchmarks/sample_fidelity.py REAL_CSV
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from simulate.figures import COLUMNS, PEOPLE, STATUSES, TARGET
from stepkit.model.statistics import compute_ks_test

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "sample.csv.gz"
CODE_LIMIT, AMOUNT_LIMIT = 0.05, 0.10
KS_LIMITS = {name: CODE_LIMIT if name in (*PEOPLE, *STATUSES) else AMOUNT_LIMIT for name in COLUMNS[1:-1]}
SHARE_RANGE = (0.21, 0.23)
AUC_RANGE = (0.74, 0.80)
PAIRS = (
    ("BILL_AMT1", "BILL_AMT2"),
    ("BILL_AMT1", "BILL_AMT6"),
    ("BILL_AMT2", "PAY_AMT1"),
    ("PAY_0", "PAY_2"),
    ("PAY_2", "BILL_AMT2"),
    ("LIMIT_BAL", "PAY_0"),
    ("LIMIT_BAL", "AGE"),
    ("LIMIT_BAL", TARGET),
    ("PAY_0", TARGET),
)

Row = tuple[str, float, float, str, bool]


def compute_forest_auc(table: pd.DataFrame) -> float:
    """Return the ROC AUC of the project's forest: trained on 70 % of `table`, scored on the other 30 %."""
    features, target = table.drop(columns=["ID", TARGET]), table[TARGET]
    parts = train_test_split(features, target, test_size=0.3, stratify=target, random_state=42)
    train, test, train_target, test_target = parts
    forest = RandomForestClassifier(100, max_depth=13, class_weight="balanced", random_state=42, n_jobs=2)
    chance = forest.fit(train, train_target).predict_proba(test)[:, 1]
    return float(roc_auc_score(test_target, chance))


def build_distance_rows(sample: pd.DataFrame, real: pd.DataFrame) -> list[Row]:
    """Return a row with the KS distance of each column between sample and real table."""
    distances = {name: compute_ks_test(sample[name].to_numpy(), real[name].to_numpy())[0] for name in KS_LIMITS}
    return [
        (f"KS {name}", distance, 0.0, f"<= {KS_LIMITS[name]:.2f}", distance <= KS_LIMITS[name])
        for name, distance in distances.items()
    ]


def build_range_row(name: str, sample: float, real: float, limits: tuple[float, float]) -> Row:
    """Return the row of a figure that must be within limits for the sample."""
    low, high = limits
    return name, sample, real, f"{low:.2f} to {high:.2f}", low <= sample <= high


def build_correlation_rows(sample: pd.DataFrame, real: pd.DataFrame) -> list[Row]:
    """Return the rows of rank correlations, which have no limit."""
    of_sample, of_real = sample.corr("spearman"), real.corr("spearman")
    apart = (of_sample - of_real).abs().to_numpy()[np.triu_indices(len(of_sample), k=1)]
    pairs = [(f"{left} / {right}", of_sample[left][right], of_real[left][right]) for left, right in PAIRS]
    pairs += [("mean difference of all", apart.mean(), 0.0), ("largest difference of all", apart.max(), 0.0)]
    return [(f"rank correlation {name}", float(first), float(second), "", True) for name, first, second in pairs]


def compare_tables(sample: pd.DataFrame, real: pd.DataFrame) -> list[Row]:
    """Return all rows of the comparison of two tables with the columns of the real table."""
    features = [name for name in COLUMNS if name != "ID"]
    return [
        *build_distance_rows(sample, real),
        build_range_row("default share", sample[TARGET].mean(), real[TARGET].mean(), SHARE_RANGE),
        build_range_row("forest ROC AUC", compute_forest_auc(sample), compute_forest_auc(real), AUC_RANGE),
        *build_correlation_rows(sample[features], real[features]),
    ]


def render_table(rows: list[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table("measure", "sample", "real", "limit", "ok")
    for name, sample, real, limit, is_ok in rows:
        table.add_row(name, f"{sample:.4f}", f"{real:.4f}", limit, ("yes" if is_ok else "NO") if limit else "")
    return table


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real_csv", type=Path, help="table of UCI data set 350, as CSV")
    parser.add_argument("--sample", type=Path, default=SAMPLE)
    args = parser.parse_args(argv)
    rows = compare_tables(pd.read_csv(args.sample), pd.read_csv(args.real_csv))
    Console(width=100).print(render_table(rows))
    sys.exit(0 if all(row[-1] for row in rows) else 1)


if __name__ == "__main__":
    main()
