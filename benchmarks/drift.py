"""How often windows without drift alarm, and how often each named drift is caught in its first full window.

Run it by `make bench-drift`: it writes benchmarks/drift.md. Clients come from simulate, so the truth is known: the
model is trained on 30,000 of them as the pipeline trains it, each window is 2,000 others.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.pipeline import Pipeline

from drift.compare.inputs import Current, Reference, Sides
from drift.compare.performance import LEVEL, ScoredRows
from drift.compare.signals import judge
from drift.compare.sources import WatchedVersion
from drift.settings import load_monitoring
from preprocess.run import clean_table
from random_forest.pipeline import build_pipeline
from simulate.clients import simulate_clients
from simulate.drifts import simulate_traffic
from stepkit.paths import ROOT
from stepkit.settings.drift import Monitoring
from stepkit.settings.model import ModelSettings
from stepkit.store.model_address import RegisteredVersion
from stepkit.table.columns import Columns, read_columns
from stepkit.table.split import split_table
from stepkit.table.tables import to_model_input

RESULTS = ROOT / "benchmarks" / "drift.md"
TRAINING_ROWS, TRAINING_SEED = 30_000, 42
ROWS = 2_000
FIRST_SEED = 10_000
MOST_FALSE, LEAST_CAUGHT = 0.01, 0.95
CHANGES = {
    "none": "nothing",
    "limits": "limits higher by 20 %",
    "age": "AGE higher by 5 years",
    "delay": "one month's delay more in PAY_0 for 15 % of the rows",
    "new_code": "a new code of EDUCATION in 5 %",
    "missing": "10 % of AGE missing",
    "defaults": "share of defaults doubled, labels known",
    "defaults without labels": "share of defaults doubled, seen in the score",
}
COUNTS = {**dict.fromkeys(CHANGES, 40), "none": 200}
SHARED: list[Any] = []
"""The world and the settings, for the processes that are forked: to send them along with each window takes longer."""


@dataclass(frozen=True)
class World:
    """A model, and the data it was trained and tested on."""

    columns: Columns
    model: Pipeline
    reference: Reference


@dataclass
class Outcome:
    """How often a kind of window alarmed, by which signals, and whether the estimated AUC covered the realised one."""

    windows: int = 0
    alarms: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    covered: int = 0

    @property
    def share(self) -> float:
        return self.alarms / self.windows

    def format_row(self, name: str) -> str:
        signals = ", ".join(f"{signal} {count}" for signal, count in self.signals.most_common(4)) or "-"
        return f"| {CHANGES[name]} | {self.windows} | {self.alarms} ({self.share:.1%}) | {signals} |"


def build_world(rows: int, seed: int) -> World:
    """Train on simulated clients as the pipeline does, on what is left after a test and a validation split."""
    columns = read_columns(ROOT / "data" / "uci.yaml")
    settings = ModelSettings.model_validate(yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text()))
    table = clean_table(simulate_clients(rows, seed), columns)
    train, test = split_table(table, 0.3, columns.target, seed)
    fitted_on, _ = split_table(train, 0.3, columns.target, seed)
    model = build_pipeline(settings, columns, seed)
    model.set_params(**{name: 1 for name in model.get_params() if name.endswith("__n_jobs")})
    model.fit(to_model_input(fitted_on, columns), fitted_on[columns.target])
    scored = ScoredRows(predict_probability(model, test, columns), test[columns.target].to_numpy(float))
    reference = Reference("train", train[columns.names], train[columns.target].to_numpy(float), scored)
    return World(columns, model, reference)


def predict_probability(model: Pipeline, table: pd.DataFrame, columns: Columns) -> np.ndarray:
    answered: np.ndarray = model.predict_proba(to_model_input(table, columns))[:, 1]
    return answered


def build_window(of: World, seed: int, drift: str, labels: bool = True) -> Sides:
    """Return a window of traffic and the reference."""
    table = simulate_traffic(ROWS, seed, drift)
    label = table[of.columns.source_target].to_numpy(float) if labels else np.full(len(table), np.nan)
    inputs = to_model_input(table, of.columns)
    watched = WatchedVersion(RegisteredVersion("bench", "1", ""), of.columns, "", "")
    score = predict_probability(of.model, table, of.columns)
    return Sides(of.reference, Current("traffic", inputs, None, None, score, label), watched)


def judge_window(case: tuple[str, int]) -> tuple[str, list[str], bool]:
    """Judge one window: its name, the signals that alarm, and whether the interval held the realised AUC."""
    (of, settings), (name, seed) = SHARED, case
    drift, _, without = name.partition(" ")
    judged = judge(build_window(of, seed, drift, labels=not without), settings)
    estimated, realised = judged.signals["estimated_auc"], judged.signals.get("realised_auc")
    covered = realised is not None and estimated["lower"] <= realised["value"] <= estimated["upper"]
    return name, [signal for signal, one in judged.signals.items() if one["alarm"]], covered


def measure(of: World, settings: Monitoring, counts: dict[str, int], processes: int) -> dict[str, Outcome]:
    """Judge so many windows of each kind."""
    cases = [(name, FIRST_SEED + seed) for name, count in counts.items() for seed in range(count)]
    outcomes = {name: Outcome() for name in counts}
    SHARED[:] = [of, settings]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for name, alarms, covered in pool.imap_unordered(judge_window, cases, chunksize=5):
            one = outcomes[name]
            one.windows += 1
            one.alarms += bool(alarms)
            one.signals.update(alarms)
            one.covered += covered
    return outcomes


def is_good(name: str, outcome: Outcome) -> bool:
    return outcome.share <= MOST_FALSE if name == "none" else outcome.share >= LEAST_CAUGHT


def render_page(outcomes: dict[str, Outcome]) -> str:
    """Return the page with the table."""
    rows = "\n".join(outcome.format_row(name) for name, outcome in outcomes.items())
    honest = outcomes["none"]
    return f"""# How often drift is found

Made by `make bench-drift`. Windows of {ROWS:,} rows by `simulate`, beside the
training data of a forest made from {TRAINING_ROWS:,} others, with the settings of config.yaml. An alarm
is any signal of one window.

| what changed | windows | alarms | by signal |
| --- | --- | --- | --- |
{rows}

The {LEVEL:.0%} interval of the AUC that is estimated without labels held the AUC by the labels in
{honest.covered} of {honest.windows} windows without drift ({honest.covered / honest.windows:.1%}).
"""


def main() -> None:
    start = time.monotonic()
    outcomes = measure(build_world(TRAINING_ROWS, TRAINING_SEED), load_monitoring({}), COUNTS, os.cpu_count() or 1)
    text = render_page(outcomes)
    RESULTS.write_text(text, encoding="utf-8")
    print(f"{text}\n{time.monotonic() - start:.0f} s")
    if bad := [name for name, one in outcomes.items() if not is_good(name, one)]:
        sys.exit(f"promise not kept: {', '.join(bad)}")


if __name__ == "__main__":
    main()
