"""Named drifts with a known truth: a table of clients as they were -> as they are after something changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from simulate.clients import simulate_clients
from simulate.figures import TARGET

LONGEST_DELAY = 8
NEW_CODE = 7
OVERSAMPLING = 4
"""How many times as many clients are drawn as are kept where the share of defaults is to be doubled."""

Drift = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def keep_unchanged(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    return table


def raise_limits(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    return table.assign(LIMIT_BAL=(table["LIMIT_BAL"] * 1.2).round().astype(int))


def age_clients(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    return table.assign(AGE=table["AGE"] + 5)


def delay_payments(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """15 % of the clients are a month later with September's payment."""
    later = (table["PAY_0"] + 1).clip(upper=LONGEST_DELAY)
    return table.assign(PAY_0=table["PAY_0"].where(~choose_rows(table, 0.15, random), later))


def add_new_code(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """5 % of the clients have an education that was unknown before."""
    return table.assign(EDUCATION=table["EDUCATION"].where(~choose_rows(table, 0.05, random), NEW_CODE))


def remove_ages(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """10 % of the clients have no age."""
    return table.assign(AGE=table["AGE"].astype(float).mask(choose_rows(table, 0.10, random)))


def double_defaults(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Twice as many clients default: defaulters are drawn more often, as they are, until their share is doubled."""
    is_default = table[TARGET].to_numpy() == 1
    share = is_default.mean()
    wanted = round(min(2 * share, 1.0) * len(table))
    rows = [
        random.choice(np.flatnonzero(of_class), count, replace=count > of_class.sum())
        for of_class, count in ((is_default, wanted), (~is_default, len(table) - wanted))
    ]
    return table.iloc[random.permutation(np.concatenate(rows))].reset_index(drop=True)


def choose_rows(table: pd.DataFrame, share: float, random: np.random.Generator) -> np.ndarray:
    """Choose a share of the rows: n booleans."""
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
    """Return `rows` clients (25 columns) as they ask after a drift; the same seed gives the same clients."""
    random = np.random.default_rng([seed, list(DRIFTS).index(drift)])
    spare = OVERSAMPLING if drift == "defaults" else 1
    return DRIFTS[drift](simulate_clients(rows * spare, seed), random).head(rows).reset_index(drop=True)
