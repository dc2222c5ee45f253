"""Named drifts with a known truth: a table of clients as they were -> as they are after something changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from simulate.clients import clients
from simulate.figures import TARGET

LONGEST_DELAY = 8
NEW_CODE = 7
SPARE = 4
"""How many times as many clients are drawn as are kept where the share of defaults is to be doubled."""

Drift = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def honest(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    return table


def higher_limits(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    return table.assign(LIMIT_BAL=(table["LIMIT_BAL"] * 1.2).round().astype(int))


def older_clients(table: pd.DataFrame, _random: np.random.Generator) -> pd.DataFrame:
    return table.assign(AGE=table["AGE"] + 5)


def late_payers(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """15 % of the clients are a month later with September's payment."""
    later = (table["PAY_0"] + 1).clip(upper=LONGEST_DELAY)
    return table.assign(PAY_0=table["PAY_0"].where(~some(table, 0.15, random), later))


def new_code(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """5 % of the clients have an education that was unknown before."""
    return table.assign(EDUCATION=table["EDUCATION"].where(~some(table, 0.05, random), NEW_CODE))


def gaps(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """10 % of the clients have no age."""
    return table.assign(AGE=table["AGE"].astype(float).mask(some(table, 0.10, random)))


def more_defaults(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Twice as many clients default: defaulters are drawn more often, as they are, until their share is doubled."""
    is_default = table[TARGET].to_numpy() == 1
    share = is_default.mean()
    wanted = round(min(2 * share, 1.0) * len(table))
    rows = [
        random.choice(np.flatnonzero(of_class), count, replace=count > of_class.sum())
        for of_class, count in ((is_default, wanted), (~is_default, len(table) - wanted))
    ]
    return table.iloc[random.permutation(np.concatenate(rows))].reset_index(drop=True)


def some(table: pd.DataFrame, share: float, random: np.random.Generator) -> np.ndarray:
    """Choose a share of the rows: n booleans."""
    chosen: np.ndarray = random.random(len(table)) < share
    return chosen


DRIFTS: dict[str, Drift] = {
    "none": honest,
    "limits": higher_limits,
    "age": older_clients,
    "delay": late_payers,
    "new_code": new_code,
    "missing": gaps,
    "defaults": more_defaults,
}


def traffic(rows: int, seed: int, drift: str = "none") -> pd.DataFrame:
    """Return `rows` clients (25 columns) as they ask after a drift; the same seed gives the same clients."""
    random = np.random.default_rng([seed, list(DRIFTS).index(drift)])
    spare = SPARE if drift == "defaults" else 1
    return DRIFTS[drift](clients(rows * spare, seed), random).head(rows).reset_index(drop=True)
