"""Small data sets and configurations for several unit and contract tests."""

from __future__ import annotations

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from pipeline.sweep.hydra_plugins import register_plugins
from stepkit.paths import ROOT
from stepkit.table.columns import Column, Columns

CLIENTS = Columns(
    id_column="ID",
    duplicates="drop",
    source_target="default payment next month",
    target="default",
    columns={
        "LIMIT_BAL": Column(min=1),
        "SEX": Column(role="categorical", values=[1, 2]),
        "AGE": Column(min=18, max=120),
    },
)
"""Whole numbers and codes, as in the UCI data set."""

LOANS = Columns(
    source_target="repaid",
    target="default",
    negative="yes",
    positive="no",
    columns={
        "amount": Column(type="float", min=0, max_missing=0.5),
        "purpose": Column(type="text", role="categorical", values=["car", "house"]),
        "branch": Column(type="text", role="categorical"),
    },
)
"""Texts, fractions and a target in words: what another table may look like."""


def make_clients() -> pd.DataFrame:
    """Return four clean rows as preprocess publishes them for `CLIENTS`."""
    return pd.DataFrame(
        {
            "LIMIT_BAL": [20000, 50000, 90000, 120000],
            "SEX": [1, 2, 2, 1],
            "AGE": [24, 57, 34, 45],
            "default": [1, 0, 0, 1],
        }
    )


def compose_config(*overrides: str) -> DictConfig:
    """Compose the real configuration with `overrides`, as main.py does."""
    register_plugins()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT)):
        return compose("config", list(overrides))
