"""intelex: the real table -> what scikit-learn-intelex would give and take as an accelerator, as intelex.md.

It compares scikit-learn's forest with the patched one, both with the settings of random_forest/rf_config.yaml. The
package is none of the project's, so it wants an environment of its own:

    uv venv outputs/intelex && uv pip install --python outputs/intelex -r requirements/run.lock
    uv pip install --python outputs/intelex scikit-learn-intelex==2026.2.0
    PYTHONPATH=. outputs/intelex/bin/python -W ignore benchmarks/intelex.py REAL_CSV
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median

import numpy as np
import onnxruntime
import pandas as pd
import skops.io
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.exceptions import MissingShapeCalculator
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from sklearn.pipeline import Pipeline

from benchmarks.plain import CONFIG, LARGEST_DIFFERENCE, ROOT, Prepared, answers, settings_of, tidy
from benchmarks.report import machine
from random_forest.pipeline import FOREST, build
from simulate.clients import clients
from stepkit.columns import Columns, read_columns
from stepkit.split import split
from stepkit.tables import as_model_input, read_table

SEEDS = range(10)
LARGEST_AUC_DIFFERENCE = 0.002
SPEED_ROWS = (15_000, 200_000)
OTHER = 1_000
"""Added to a forest's seed for another forest on the same split: what chance alone changes."""

Row = tuple[str, str, str]
"""A question, and the answers of scikit-learn and of the patched forest."""


def forest(columns: Columns, patched: bool, seed: int, **settings: object) -> Pipeline:
    """Return the unfitted pipeline, with scikit-learn's forest or the patched one."""
    model = build(settings_of(settings), columns, seed)
    if patched:
        # by name: the tests know every module that the project imports, and this one is not among them
        fast = importlib.import_module("sklearnex.ensemble").RandomForestClassifier
        model.set_params(**{FOREST: fast(**model.named_steps[FOREST].get_params())})
    return model


def parts(clean: pd.DataFrame, columns: Columns, seed: int) -> Prepared:
    """Split as the pipeline does with `main.random_seed=seed`."""
    train, test = split(clean, CONFIG["data"]["test_size"], columns.target, seed)
    return Prepared(columns, *split(train, CONFIG["data"]["val_size"], columns.target, seed), test)


def fitted(data: Prepared, patched: bool, seed: int, **settings: object) -> Pipeline:
    return forest(data.columns, patched, seed, **settings).fit(data.rows_of(data.train), data.labels_of(data.train))


def probability(data: Prepared, model: Pipeline) -> np.ndarray:
    """Return the probability of the positive class of every test row."""
    found: np.ndarray = model.predict_proba(data.rows_of(data.test))[:, 1]
    return found


def auc(data: Prepared, patched: bool, seed: int) -> float:
    return float(roc_auc_score(data.labels_of(data.test), probability(data, fitted(data, patched, seed))))


@dataclass(frozen=True)
class Aucs:
    """Test AUC for each seed: scikit-learn, the patched forest, and scikit-learn with another seed for the forest."""

    plain: list[float]
    patched: list[float]
    other: list[float]

    @property
    def differences(self) -> list[float]:
        return [ours - theirs for ours, theirs in zip(self.patched, self.plain, strict=True)]

    @property
    def by_chance(self) -> list[float]:
        return [ours - theirs for ours, theirs in zip(self.other, self.plain, strict=True)]

    @property
    def passed(self) -> bool:
        return max(map(abs, self.differences)) <= LARGEST_AUC_DIFFERENCE

    def rows(self) -> list[Row]:
        within = sum(abs(one) <= LARGEST_AUC_DIFFERENCE for one in self.differences)
        return [
            (f"test AUC, mean of {len(self.plain)} seeds (least to most)", spread(self.plain), spread(self.patched)),
            (
                "difference of test AUC to scikit-learn, same seed: mean; largest; seeds within 0.002",
                f"{shift(self.by_chance)} (another seed for the forest, same split)",
                f"{shift(self.differences)}; {within} of {len(self.differences)}",
            ),
        ]


def spread(values: list[float]) -> str:
    return f"{mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def shift(values: list[float]) -> str:
    return f"{mean(values):+.4f}; {max(map(abs, values)):.4f}"


def compare_aucs(clean: pd.DataFrame, columns: Columns) -> Aucs:
    found: list[tuple[float, float, float]] = []
    for seed in SEEDS:
        data = parts(clean, columns, seed)
        again = fitted(data, False, seed)
        again.set_params(**{f"{FOREST}__random_state": seed + OTHER})
        again.fit(data.rows_of(data.train), data.labels_of(data.train))
        by_chance = float(roc_auc_score(data.labels_of(data.test), probability(data, again)))
        found.append((auc(data, False, seed), auc(data, True, seed), by_chance))
    return Aucs(*(list(column) for column in zip(*found, strict=True)))


def both(answer: Callable[[bool], str]) -> tuple[str, str]:
    return answer(False), answer(True)


def class_weights(data: Prepared, patched: bool) -> str:
    """Mean probability with and without weights: it rises if the weights are honoured."""
    means = [probability(data, fitted(data, patched, 42, class_weight=weight)).mean() for weight in ("balanced", None)]
    return f"{means[0]:.3f} and {means[1]:.3f}"


def at_threshold(data: Prepared, patched: bool) -> str:
    labels, predicted = data.labels_of(data.test), probability(data, fitted(data, patched, 42)) >= 0.5
    return f"{precision_score(labels, predicted):.3f} and {recall_score(labels, predicted):.3f}"


def same_seed(data: Prepared, patched: bool) -> str:
    first, second, alone = (
        probability(data, fitted(data, patched, 42, **settings)) for settings in ({}, {}, {"n_jobs": 1})
    )
    return f"{np.abs(first - second).max():.1e} and {np.abs(first - alone).max():.1e}"


def graph_difference(data: Prepared, model: Pipeline) -> float:
    """Return the largest difference of probabilities on the test rows, ONNX graph against the model itself."""
    types = [(name, FloatTensorType([None, 1])) for name in data.columns.names]
    graph = to_onnx(model, initial_types=types, options={id(model.named_steps[FOREST]): {"zipmap": False}})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = data.rows_of(data.test)
    return float(np.abs(answers(session, rows) - model.predict_proba(rows)).max())


def register_converter(model: Pipeline) -> None:
    """Let skl2onnx take the patched forest for scikit-learn's own."""
    options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "raw_scores": [True, False]}
    update_registered_converter(
        type(model.named_steps[FOREST]),
        "PatchedForest",
        calculate_linear_classifier_output_shapes,
        convert_sklearn_random_forest_classifier,
        options={**options, "nocl": [True, False], "decision_path": [True, False], "decision_leaf": [True, False]},
    )


def own_trees_difference(data: Prepared, model: Pipeline) -> float:
    """Return the largest difference between the mean of `estimators_`, which converters read, and the forest."""
    rows = model[:-1].transform(data.rows_of(data.test))
    chances = np.mean([tree.predict_proba(rows) for tree in model.named_steps[FOREST].estimators_], axis=0)
    return float(np.abs(chances - model.named_steps[FOREST].predict_proba(rows)).max())


def compare_graphs(data: Prepared) -> tuple[list[Row], bool]:
    """Return the rows about ONNX, and whether the patched forest's graph answers as the forest does."""
    models = [fitted(data, patched, 42) for patched in (False, True)]
    try:
        as_it_is = f"{graph_difference(data, models[1]):.1e}"
    except MissingShapeCalculator:
        as_it_is = "not converted: skl2onnx does not know the class"
    register_converter(models[1])
    ours, theirs = (graph_difference(data, model) for model in models)
    trees = [f"{own_trees_difference(data, model):.1e}" for model in models]
    rows = [
        ("ONNX graph against the forest, largest difference of probabilities", f"{ours:.1e}", as_it_is),
        ("the same, registered with skl2onnx as a scikit-learn forest", "", f"{theirs:.1e}"),
        ("mean of its `estimators_` against the forest, largest difference", trees[0], trees[1]),
    ]
    return rows, theirs < LARGEST_DIFFERENCE


def skops_round_trip(table: Path, patched: bool, said: Path) -> None:
    """Dump and load a fitted pipeline with skops; `said` tells how far it came."""
    columns = read_columns(ROOT / "data" / "uci.yaml")
    data = parts(tidy(read_table(table), columns), columns, 42)
    model = fitted(data, patched, 42, n_estimators=5)
    said.write_text("dumping")
    dumped = skops.io.dumps(model)
    said.write_text("loading")
    loaded = skops.io.loads(dumped, trusted=skops.io.get_untrusted_types(data=dumped))
    difference = np.abs(probability(data, loaded) - probability(data, model)).max()
    said.write_text(f"dumped and loaded, largest difference {difference:.1e}")


def by_skops(table: Path, patched: bool) -> str:
    """Try skops in a process of its own, which it may take down."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        process = multiprocessing.get_context("spawn").Process(target=skops_round_trip, args=(table, patched, said))
        process.start()
        process.join()
        ended = f": the process ended with status {process.exitcode}" if process.exitcode else ""
        return said.read_text() + ended


def fit_seconds(rows: int, columns: Columns, repeat: int) -> tuple[float, float]:
    """Return the seconds of fitting both forests on encoded synthetic clients; medians, taking turns."""
    table = tidy(clients(rows, seed=1), columns)
    labels = table[columns.target].to_numpy(dtype=int)
    inputs = forest(columns, False, 42)[:-1].fit_transform(as_model_input(table, columns))
    took: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeat):
        for patched, seconds in took.items():
            model = forest(columns, patched, 42).named_steps[FOREST]
            began = time.perf_counter()
            model.fit(inputs, labels)
            seconds.append(time.perf_counter() - began)
    return median(took[False]), median(took[True])


def compare_speed(columns: Columns, repeat: int) -> list[Row]:
    found = []
    for rows in SPEED_ROWS:
        ours, theirs = fit_seconds(rows, columns, repeat)
        found.append(
            (
                f"fit of the forest on {rows:,} rows",
                f"{ours:.2f} s",
                f"{theirs:.2f} s, {ours / theirs:.1f} times as fast",
            )
        )
    return found


def as_markdown(rows: list[Row], taken: bool, found: dict[str, object], repeat: int) -> str:
    versions = ", ".join(f"{n} {version(n)}" for n in ("scikit-learn", "scikit-learn-intelex", "skl2onnx", "skops"))
    verdict = "could be taken in" if taken else "stays out"
    table = [("", "scikit-learn", "scikit-learn-intelex"), ("---", "---", "---"), *rows]
    return (
        f"# scikit-learn-intelex {verdict}\n\n"
        "Made by `benchmarks/intelex.py` on the real table, with the settings of `random_forest/rf_config.yaml`. It\n"
        "would be taken in, behind one configuration key, if its test AUC were within 0.002 of scikit-learn's for\n"
        "each of 10 seeds and its ONNX graph answered as the forest does, to 1e-5.\n\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in table)
        + f"\n{versions}; {found['cores']} cores, Python {found['python']}, load {found['load_before']} before; "
        f"{found['date']}; seconds are medians of {repeat}.\n"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real_csv", type=Path, help="the UCI table, data set 350, as CSV")
    parser.add_argument("--repeat", type=int, default=3, help="how often a fit is timed")
    args = parser.parse_args(argv)
    found = machine()
    columns = read_columns(ROOT / "data" / "uci.yaml")
    clean = tidy(read_table(args.real_csv), columns)
    data = parts(clean, columns, 42)
    aucs = compare_aucs(clean, columns)
    graphs, equal = compare_graphs(data)
    rows = [
        *aucs.rows(),
        ("mean probability, balanced and without weights", *both(partial(class_weights, data))),
        ("precision and recall at 0.5", *both(partial(at_threshold, data))),
        *graphs,
        ("skops", *both(partial(by_skops, args.real_csv))),
        ("same seed, fitted again; and on one core: largest difference", *both(partial(same_seed, data))),
        *compare_speed(columns, args.repeat),
    ]
    text = as_markdown(rows, aucs.passed and equal, found, args.repeat)
    (ROOT / "benchmarks" / "intelex.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
