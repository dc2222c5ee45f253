"""Named drifts of known size, as functions from a table of clients to a changed table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from simulate.clients import simulate_clients
from simulate.figures import TARGET

LONGEST_DELAY = 8
NEW_CODE = 7
OVERSAMPLING = 4
"""Factor of clients drawn to clients kept when the share of defaults is doubled."""

Drift = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def keep_unchanged(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    """Return the clients unchanged."""
    return table


def raise_limits(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    """Raise every limit by 20 %."""
    return table.assign(LIMIT_BAL=(table["LIMIT_BAL"] * 1.2).round().astype(int))


def age_clients(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    """Make every client five years older."""
    return table.assign(AGE=table["AGE"] + 5)


def delay_payments(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Delay September's payment of 15 % of the clients by one more month."""
    later = (table["PAY_0"] + 1).clip(upper=LONGEST_DELAY)
    return table.assign(PAY_0=table["PAY_0"].where(~choose_rows(table, 0.15, random), later))


def add_new_code(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Give 5 % of the clients a new code of EDUCATION."""
    return table.assign(EDUCATION=table["EDUCATION"].where(~choose_rows(table, 0.05, random), NEW_CODE))


def remove_ages(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Remove the age of 10 % of the clients."""
    return table.assign(AGE=table["AGE"].astype(float).mask(choose_rows(table, 0.10, random)))


def double_defaults(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Draw defaulters more often, unchanged, until their share is doubled."""
    is_default = table[TARGET].to_numpy() == 1
    share = is_default.mean()
    target_count = round(min(2 * share, 1.0) * len(table))
    rows = [
        random.choice(np.flatnonzero(of_class), count, replace=count > of_class.sum())
        for of_class, count in ((is_default, target_count), (~is_default, len(table) - target_count))
    ]
    return table.iloc[random.permutation(np.concatenate(rows))].reset_index(drop=True)


def choose_rows(table: pd.DataFrame, share: float, random: np.random.Generator) -> np.ndarray:
    """Return n booleans that are true for about a share of the rows."""
    chosen: np.ndarray = random.random(len(table)) < share
    return chosen


DRIFTS: dict[str, Drift] = {
    "none": keep_unchanged,
    "limits": raise_limits,
    "age": age_clients,
    "delay": delay_payments,
    "new_code": add_new_code,
    "missing": remove_ages,
    "defaults": double_defaults,
}


def simulate_traffic(rows: int, seed: int, drift: str = "none") -> pd.DataFrame:
    """Return `rows` clients (25 columns) after a drift; the same seed gives the same clients."""
    random = np.random.default_rng([seed, list(DRIFTS).index(drift)])
    spare = OVERSAMPLING if drift == "defaults" else 1
    return DRIFTS[drift](simulate_clients(rows * spare, seed), random).head(rows).reset_index(drop=True)
