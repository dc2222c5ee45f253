"""Rate of false alarms without drift, and detection rate of each simulated drift in its first full window.

`make bench-drift` runs this benchmark and writes benchmarks/drift.md. The clients come from simulate, so the truth is
known. The model is trained on 30,000 clients as in the pipeline; each window has 2,000 other clients.
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
from random_forest.run import KIND
from simulate.clients import simulate_clients
from simulate.drifts import simulate_traffic
from stepkit.paths import ROOT
from stepkit.settings.drift import STABILITY_SIGNALS, Monitoring
from stepkit.settings.model import CALIBRATED, RandomForestSettings
from stepkit.store.model_address import RegisteredVersion
from stepkit.table.columns import Columns, read_columns
from stepkit.table.split import split_table
from stepkit.table.tables import to_model_input

RESULTS = ROOT / "benchmarks" / "drift.md"
TRAINING_ROWS, TRAINING_SEED = 30_000, 42
ROWS = 2_000
FIRST_SEED = 10_000
MAX_FALSE_ALARMS, MIN_DETECTED = 0.01, 0.95
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
"""World and settings for the forked processes, because sending them with each window takes longer."""


@dataclass(frozen=True)
class World:
    """A model with its training and test data."""

    columns: Columns
    model: Pipeline
    reference: Reference


@dataclass
class Outcome:
    """Counts for one kind of window: alarms, signals, and AUC intervals that cover the realised AUC.

    Only a signal of alert_signals makes an alarm.
    """

    windows: int = 0
    alarms: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    covered: int = 0

    @property
    def share(self) -> float:
        """Share of the windows that alarm."""
        return self.alarms / self.windows

    def format_row(self, name: str) -> str:
        """Return the row of the Markdown table."""
        counted = [(signal, count) for signal, count in self.signals.most_common() if signal not in STABILITY_SIGNALS]
        signals = ", ".join(f"{signal} {count}" for signal, count in counted[:4]) or "-"
        indices = " | ".join(str(self.signals[signal]) for signal in STABILITY_SIGNALS)
        return f"| {CHANGES[name]} | {self.windows} | {self.alarms} ({self.share:.1%}) | {signals} | {indices} |"


def build_world(rows: int, seed: int) -> World:
    """Return a model trained on simulated clients with the pipeline's test split, refitted on all training rows."""
    columns = read_columns(ROOT / "data" / "uci.yaml")
    configured = yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text())
    settings = RandomForestSettings.model_validate(
        {**configured, "random_forest": {**configured["random_forest"], "n_jobs": 1}}
    )
    table = clean_table(simulate_clients(rows, seed), columns)
    train, test = split_table(table, 0.3, columns.target, seed)
    labels = train[columns.target].to_numpy(dtype=int)
    model = KIND.fit(settings, columns, to_model_input(train, columns), labels, seed)
    is_calibrated = settings.calibration in CALIBRATED
    scored = ScoredRows(predict_probability(model, test, columns), test[columns.target].to_numpy(float), is_calibrated)
    reference = Reference("train", train[columns.names], train[columns.target].to_numpy(float), scored)
    return World(columns, model, reference)


def predict_probability(model: Pipeline, table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return n probabilities of the positive class."""
    probability: np.ndarray = model.predict_proba(to_model_input(table, columns))[:, 1]
    return probability


def build_window(world: World, seed: int, drift: str, labels: bool = True) -> Sides:
    """Return a window of simulated traffic with the reference."""
    table = simulate_traffic(ROWS, seed, drift)
    label = table[world.columns.source_target].to_numpy(float) if labels else np.full(len(table), np.nan)
    inputs = to_model_input(table, world.columns)
    version = WatchedVersion(RegisteredVersion("bench", "1", ""), world.columns, "", "")
    score = predict_probability(world.model, table, world.columns)
    return Sides(world.reference, Current("traffic", inputs, None, None, score, label), version)


def judge_window(case: tuple[str, int]) -> tuple[str, list[str], bool]:
    """Judge one window; return its kind, the alarms, and True if the interval covers the realised AUC."""
    (world, settings), (kind, seed) = SHARED, case
    drift, _, suffix = kind.partition(" ")
    judgement = judge(build_window(world, seed, drift, labels=not suffix), settings)
    estimated, realised = judgement.signals["estimated_auc"], judgement.signals.get("realised_auc")
    covered = realised is not None and estimated["lower"] <= realised["value"] <= estimated["upper"]
    return kind, [name for name, signal in judgement.signals.items() if signal["alarm"]], covered


def measure(world: World, settings: Monitoring, counts: dict[str, int], processes: int) -> dict[str, Outcome]:
    """Return the outcome of `counts[name]` windows of each kind."""
    cases = [(name, FIRST_SEED + seed) for name, count in counts.items() for seed in range(count)]
    outcomes = {name: Outcome() for name in counts}
    SHARED[:] = [world, settings]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for name, alarms, covered in pool.imap_unordered(judge_window, cases, chunksize=5):
            outcome = outcomes[name]
            outcome.windows += 1
            outcome.alarms += bool({*alarms} & {*settings.alert_signals})
            outcome.signals.update(alarms)
            outcome.covered += covered
    return outcomes


def is_good(name: str, outcome: Outcome) -> bool:
    """Return True if the outcome is within the limits."""
    return outcome.share <= MAX_FALSE_ALARMS if name == "none" else outcome.share >= MIN_DETECTED


def render_page(outcomes: dict[str, Outcome]) -> str:
    """Return benchmarks/drift.md."""
    rows = "\n".join(outcome.format_row(name) for name, outcome in outcomes.items())
    no_drift = outcomes["none"]
    return f"""# Detection rate of drift

`make bench-drift` writes this page. `simulate` makes windows of {ROWS:,} rows. Each is compared with the training
data of a forest ({TRAINING_ROWS:,} other rows), with the settings of config.yaml. A window alarms if any of its
alert_signals alarms. The last two columns count the alarms of the stability indices, which are not among them.

| what changed | windows | alarms | by signal | psi_score | csi |
| --- | --- | --- | --- | --- | --- |
{rows}

The {LEVEL:.0%} interval of the AUC that is estimated without labels contains the realised AUC in {no_drift.covered} of
{no_drift.windows} windows without drift ({no_drift.covered / no_drift.windows:.1%}).
"""


def main() -> None:
    """Run the benchmark; exit with 1 if an outcome is outside the limits."""
    start = time.monotonic()
    outcomes = measure(build_world(TRAINING_ROWS, TRAINING_SEED), load_monitoring({}), COUNTS, os.cpu_count() or 1)
    text = render_page(outcomes)
    RESULTS.write_text(text, encoding="utf-8")
    print(f"{text}\n{time.monotonic() - start:.0f} s")
    if failed := [name for name, outcome in outcomes.items() if not is_good(name, outcome)]:
        sys.exit(f"outside the limits: {', '.join(failed)}")


if __name__ == "__main__":
    main()
