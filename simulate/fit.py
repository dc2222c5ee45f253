"""Fit the aggregate figures of figures.json, from which simulate.clients draws, to the real table.

Run from the repository root: PYTHONPATH=. python simulate/fit.py REAL_CSV
It writes counts, quantiles, correlations and coefficients, never a client. Unlike the step, it needs scikit-learn.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simulate import clients as sim
from simulate import figures as figs
from simulate.figures import BoolArray, Floats, Ints

log = logging.getLogger("simulate.fit")

SOURCE = {
    "data set": "Default of Credit Card Clients, UCI Machine Learning Repository, data set 350",
    "author": "I-Cheng Yeh, 2009",
    "licence": "CC BY 4.0",
    "doi": "10.24432/C55S3H",
    "content": "aggregate figures only, made by simulate/fit.py; no rows of the data set",
}
# The outermost points are not 0 and 1, so that no figure is the amount of a single client.
GRID = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
FEWEST = 30  # a cell with fewer clients uses the distribution of its parent
RARE = 10  # limits and ages of fewer clients are left out
# A logistic regression finds less structure than a forest. With this contrast, a forest predicts the simulated defaults
# as well as the real ones (ROC AUC 0.77).
CONTRAST = 1.16
CALIBRATION_ROWS = 200_000


def count_choices(cells: Ints, choices: Ints, shape: tuple[int, int]) -> list[list[int]]:
    """Return the count of each choice in each cell (cells x choices)."""
    counts = np.bincount(cells * shape[1] + choices, minlength=shape[0] * shape[1])
    return [[int(value) for value in row] for row in counts.reshape(shape)]


def count_values(cells: Ints, values: Ints, cell_count: int) -> dict[str, Any]:
    """Return the values that at least RARE clients have and their counts in each cell."""
    common, frequency = np.unique(values, return_counts=True)
    common = common[frequency >= RARE]
    is_common = np.isin(values, common)
    places = np.searchsorted(common, values[is_common])
    counts = count_choices(cells[is_common], places, (cell_count, len(common)))
    return {"values": common.tolist(), "counts": counts}


def compute_quantiles(cells: Ints, values: Floats, parent: Ints) -> list[list[float]]:
    """Return the quantiles at GRID in each cell; a cell with few clients uses those of its `parent` (cells)."""
    groups = [values[select_members(cells, cell, parent)] for cell in range(len(parent))]
    return [[float(f"{value:.3g}") for value in np.quantile(group, GRID)] for group in groups]


def select_members(cells: Ints, cell: int, parent: Ints) -> BoolArray:
    """Return the clients of `cell`; if they are few, those of its parent; if these are few too, all."""
    for chosen in (cells == cell, parent[cells] == parent[cell]):
        if chosen.sum() >= FEWEST:
            return np.asarray(chosen)
    return np.ones(len(cells), dtype=bool)


def compute_normal_scores(cells: Ints, values: Floats, rng: np.random.Generator) -> Floats:
    """Return the normal score (n) of each value in its cell; ties are ordered at random, NaN stays."""
    order = pd.DataFrame({"cell": cells, "value": values, "tie": rng.random(len(cells))}).dropna()
    order = order.sort_values(["value", "tie"])
    ranks = (order.groupby("cell").cumcount() + 0.5) / order.groupby("cell")["value"].transform("size")
    return np.asarray(norm.ppf(ranks.reindex(range(len(cells))).to_numpy()))


def fit_statuses(education: Ints, limit: Ints, uses: Floats, statuses: Ints) -> dict[str, Any]:
    """Return counts of April's statuses and of every month's transitions."""
    codes, before = statuses - figs.LOWEST_STATUS, figs.shift_by_month(statuses)
    first = figs.assign_first_status_cells(limit, education)
    cells = figs.assign_status_cells(limit[:, None], uses, before, statuses)
    shape = (figs.STATUS_CELLS, figs.STATUS_CODES)
    following = [count_choices(cells[:, month], codes[:, month + 1], shape) for month in range(figs.MONTHS - 1)]
    april = count_choices(first, codes[:, 0], (figs.FIRST_STATUS_CELLS, figs.STATUS_CODES))
    return {"april": april, "next": following}


def fit_bills(cells: Ints, drawn: Floats, uses: Floats) -> dict[str, Any]:
    """Return the share of bills of 0 and the quantiles of the others in each cell, in April and later (n x 6 each)."""
    # The parent of a cell has all limits.
    months = {
        "april": (slice(0, 1), np.arange(figs.FIRST_BILL_CELLS) % 5),
        "next": (slice(1, None), np.arange(figs.BILL_CELLS) % 180),
    }
    figures = {}
    for name, (part, parent) in months.items():
        cell, value, other = cells[:, part].ravel(), drawn[:, part].ravel(), uses[:, part].ravel() != 0
        shares = compute_cell_shares(cell, ~other, parent)
        figures[name] = {"nothing": shares, "other": compute_quantiles(cell[other], value[other], parent)}
    return figures


def compute_bill_draws(limit: Ints, uses: Floats, statuses: Ints) -> tuple[Ints, Floats]:
    """Return the cell of every bill and the figure that is drawn for it (n x 6 each)."""
    last, before, status = uses[:, :-1], statuses[:, :-1], statuses[:, 1:]
    change = uses[:, 1:] - np.where(figs.has_carried_debt(last, before, status), last, 0)
    first = figs.assign_first_bill_cells(limit, statuses[:, 0])
    following = figs.assign_bill_cells(limit[:, None], last, before, status)
    return np.column_stack([first, following]), np.column_stack([uses[:, 0], change])


def fit_payments(payments: Ints, due: Ints, before: Ints, statuses: Ints) -> dict[str, Any]:
    """Return each month's chances of paying nothing or all and the quantiles of other payments."""
    kinds, cells = classify_payments(payments, due), figs.assign_kind_cells(due, before, statuses)
    shares, parts = payments / np.maximum(due, 1), figs.assign_part_cells(due, before)
    months = range(figs.MONTHS)
    pair = np.arange(figs.KIND_CELLS) % 25  # a thin cell borrows from all bills of its two statuses
    size = np.arange(figs.PART_CELLS) // 5  # or from all statuses of its bills
    return {
        "nothing": [compute_cell_shares(cells[:, month], kinds[:, month] == 0, pair) for month in months],
        "full": [compute_cell_shares(cells[:, month], kinds[:, month] == 2, pair) for month in months],
        "part": [
            compute_quantiles(parts[other, month], shares[other, month], size)
            for month, other in enumerate(kinds.T == 1)
        ],
        "rounding": fit_rounding(payments, due),
    }


def compute_cell_shares(cells: Ints, chosen: BoolArray, parent: Ints) -> list[float]:
    """Return the share of `chosen` in each cell; a cell with few clients uses those of its `parent` (cells)."""
    return [round(float(chosen[select_members(cells, cell, parent)].mean()), 4) for cell in range(len(parent))]


def classify_payments(paid: Ints, due: Ints) -> Ints:
    """Return 0 for nothing paid, 2 for exactly the bill, 1 for any other amount."""
    return np.where(paid == 0, 0, np.where(paid == due, 2, 1))


def fit_rounding(payments: Ints, due: Ints) -> list[list[int]]:
    """Return how often other payments are multiples of ROUND_UNITS (the largest that fits), by size."""
    part = payments[classify_payments(payments, due) == 1]
    units = np.argmax(part[:, None] % figs.ROUND_UNITS == 0, axis=1)
    shape = (len(figs.AMOUNT_EDGES) + 1, len(figs.ROUND_UNITS))
    return count_choices(figs.assign_bands(part, figs.AMOUNT_EDGES), units, shape)


def fit_risk(table: pd.DataFrame) -> dict[str, float]:
    """Return the coefficients of a logistic regression of default on `risk_terms`."""
    terms = figs.compute_risk_terms(table)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=10, max_iter=2_000))
    model.fit(terms, table[figs.TARGET])
    weights = CONTRAST * model[-1].coef_[0] / model[0].scale_
    intercept = float(model[-1].intercept_[0] - weights @ model[0].mean_)
    named = zip(terms.columns.astype(str), weights, strict=True)
    return {"intercept": intercept, **{name: float(f"{weight:.5g}") for name, weight in named}}


def calibrate_intercept(figures: dict[str, Any], share: float) -> float:
    """Return the intercept at which simulated clients default as often as the real ones."""
    uniform = np.random.default_rng(0).random((CALIBRATION_ROWS, sim.DRAWS_PER_CLIENT))
    drawn = sim.draw_clients(figs.build_figures(figures), uniform)
    risk = figures["risk"]

    def excess(intercept: float) -> float:
        return float(sim.compute_default_chances({**risk, "intercept": intercept}, drawn).mean()) - share

    return round(float(brentq(excess, risk["intercept"] - 5, risk["intercept"] + 5)), 4)


def fit_figures(real: pd.DataFrame) -> dict[str, Any]:
    """Return all aggregate figures of `real` (n x 25), the content of figures.json."""
    blocks = (figs.PEOPLE, figs.STATUSES, figs.BILLS, figs.PAYMENTS)
    people, statuses, bills, payments = (real[list(names)].to_numpy() for names in blocks)
    age, limit = real["AGE"].to_numpy(), real["LIMIT_BAL"].to_numpy()
    before, due = figs.shift_by_month(statuses), figs.shift_by_month(bills)
    codes, combinations = np.unique(people, axis=0, return_counts=True)
    limit_cells = figs.assign_limit_cells(people, age)
    uses = bills / limit[:, None]
    bill_cells, bill_values = compute_bill_draws(limit, uses, statuses)
    # Clients who owe or pay nothing, or pay exactly the bill, have no amount to correlate.
    billed = np.where(uses == 0, np.nan, bill_values)
    paid = np.where(classify_payments(payments, due) == 1, payments / np.maximum(due, 1), np.nan)
    cells = np.column_stack([limit_cells, bill_cells, figs.assign_part_cells(due, before)])
    figures: dict[str, Any] = {
        "source": SOURCE,
        "grid": GRID,
        "people": {"codes": codes.tolist(), "counts": [combinations.tolist()]},
        "age": count_values(figs.assign_age_cells(people), age, figs.AGE_CELLS),
        "limit": count_values(limit_cells, limit, figs.LIMIT_CELLS),
        "statuses": fit_statuses(people[:, 1], limit, uses, statuses),
        "bills": fit_bills(bill_cells, bill_values, uses),
        "payments": fit_payments(payments, due, before, statuses),
        "correlations": compute_correlations(cells, np.column_stack([limit, billed, paid])),
        "risk": fit_risk(real),
    }
    figures["risk"]["intercept"] = calibrate_intercept(figures, float(real[figs.TARGET].mean()))
    return figures


def compute_correlations(cells: Ints, values: Floats) -> list[list[float]]:
    """Return the correlations (13 x 13) of `values` (n x 13) that their cells leave unexplained."""
    rng = np.random.default_rng(0)
    columns = [compute_normal_scores(cell, value, rng) for cell, value in zip(cells.T, values.T, strict=True)]
    table = pd.DataFrame(np.column_stack(columns)).corr()
    return [[round(float(value), 4) for value in row] for row in table.to_numpy()]


def main(argv: list[str] | None = None) -> None:
    """Fit the figures to a CSV and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real_csv", type=Path)
    parser.add_argument("--output", type=Path, default=figs.FIGURES)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    real = pd.read_csv(args.real_csv)
    args.output.write_text(format_json(fit_figures(real)) + "\n", encoding="utf-8")
    log.info("wrote %s from %d clients", args.output, len(real))


def format_json(value: Any) -> str:
    """Return `value` as JSON with one line for each cell, so that a changed figure is a changed line."""
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {format_json(item)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(format_json(item) for item in value) + "\n]"
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main()
