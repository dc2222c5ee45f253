"""Reasons for an answer: the effect of each column on the probability, against a reference row.

The effects are the Shapley values of the game whose players are the columns: a column that has joined has the value of
the row, any other column the value of the reference row (baseline Shapley, Sundararajan and Najmi 2020). They are
estimated from random orders of the columns, each together with its reverse (antithetic sampling, Mitchell et al. 2022).
For any order, the effects and the probability of the reference row add up to the probability of the row.

A copy of this file is packed with each model and loaded by its path, so it imports only the standard library and numpy.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

EXACT = "exact"
MOST_EXACT_COLUMNS = 12
DECIMALS = 9
"""The last bits of a probability may depend on the other rows of a call, for example in a product of matrices."""
ROWS_AT_ONCE = 20_000
"""Rows of one call of the graph: bounds the memory of a large request."""
LARGEST_WHOLE_NUMBER = 2**53

Inputs = dict[str, np.ndarray]


def load_explainer_code(path: str) -> ModuleType:
    """Return this module, or the copy of it that was packed with a model, loaded from a file."""
    spec = importlib.util.spec_from_file_location("packed_reasons", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_orders(columns: int, permutations: int, seed: int) -> np.ndarray:
    """Return (permutations, columns) orders of the columns; the second half are the reversed orders of the first.

    Over all orders, the positions of each column are spread evenly (Latin hypercube sampling, McKay et al. 1979).
    """
    generator = np.random.default_rng(seed)
    shape = (permutations // 2, columns)
    strata = generator.random(shape).argsort(axis=0)
    positions = (strata + generator.random(shape)) / permutations  # 0 to 1/2
    orders = np.where(generator.random(shape) < 0.5, positions, 1 - positions).argsort(axis=1)
    return np.concatenate([orders, orders[:, ::-1]])


class Explainer:
    """Computes the effects of a model's columns on its probabilities.

    Attributes:
        baseline: probability of the reference row.
        offered: columns that may be reasons, in the model's order.
    """

    def __init__(
        self, settings: dict[str, Any], columns: list[str], text: list[str], score: Callable[[Inputs], np.ndarray]
    ) -> None:
        """Score the reference row.

        Args:
            settings: the key "reasons" of a model's settings.json.
            columns: the k input columns of the model.
            text: those among them that contain texts.
            score: graph inputs, one (n, 1) array of float32 or texts for each column -> (n,) probabilities.
        """
        self.columns = list(columns)
        self.offered = [name for name in columns if name not in settings["not_offered"]]
        self._settings = settings
        self._score = score
        self._text = [name in text for name in columns]
        cells = [_to_cell(settings["reference"][name], name in text) for name in columns]
        # One row per column: a single operation on all columns takes a fraction of the time of one for each.
        self._reference = np.array(cells, dtype=object if any(self._text) else np.float32)[:, None]
        self._is_exact = settings["permutations"] == EXACT
        if not self._is_exact:
            self._orders = make_orders(len(columns), settings["permutations"], settings["seed"])
            ranks = np.argsort(self._orders, axis=1)
            # Columns that have joined, (column, order, step).
            self._joined = ranks.T[:, :, None] <= np.arange(len(columns))
        self.baseline = float(self._score_cells(self._reference[:, :0])[0])

    def compute_effects(self, inputs: Inputs) -> np.ndarray:
        """Return the (n, k) effects of the k columns on the probabilities of n rows.

        The sum of a row's effects is its probability minus the baseline. A column with the value of the reference row
        has the effect 0.
        """
        cells = np.array([inputs[name][:, 0] for name in self.columns], dtype=self._reference.dtype)
        differs = self._find_differing(cells)
        effects = np.zeros(differs.shape)
        compute = self._compute_exact if self._is_exact else self._compute_sampled
        for rows in self._iter_chunks(differs.sum(axis=1)):
            effects[rows] = compute(cells[:, rows], differs[rows])
        return effects

    def _find_differing(self, cells: np.ndarray) -> np.ndarray:
        """Return (n, k): True where a value is not that of the reference row; `cells` is (k, n)."""
        differs: np.ndarray = cells != self._reference
        for place in np.flatnonzero(~np.array(self._text)):
            if np.isnan(float(self._reference[place, 0])):
                differs[place] = ~np.isnan(cells[place].astype(float))
        return differs.T

    def explain(
        self, inputs: Inputs, values: list[dict[str, Any]], predicted: list[int], count: int
    ) -> list[dict[str, Any]]:
        """Return the reasons, baseline, protected_effect and other of n answers, ready for JSON.

        Args:
            inputs: graph inputs of n rows.
            values: n raw rows, as the caller sent them.
            predicted: n answered classes.
            count: largest number of reasons of a row.
        """
        effects = self.compute_effects(inputs).round(DECIMALS) + 0.0  # turns -0.0 into 0.0
        offered = np.array([name in self.offered for name in self.columns])
        places = np.flatnonzero(offered)
        hidden = effects[:, ~offered].sum(axis=1)
        answers = []
        for row, (raw, answered) in enumerate(zip(values, predicted, strict=True)):
            towards = effects[row, places] * (1 if answered else -1)
            listed = places[np.argsort(-towards, kind="stable")[:count]]
            rest = effects[row, places].sum() - effects[row, listed].sum()
            answers.append(
                {
                    "reasons": [self._make_reason(self.columns[place], raw, effects[row, place]) for place in listed],
                    "baseline": _round(self.baseline),
                    "protected_effect": _round(hidden[row]),
                    "other": _round(rest),
                }
            )
        return answers

    def _make_reason(self, name: str, raw: dict[str, Any], effect: float) -> dict[str, Any]:
        label, value = self._settings["labels"].get(name) or name, to_plain_value(raw[name])
        reason = {"column": name, "label": label, "value": value, "effect": float(effect)}
        sentence = self._settings["sentences"].get(name)
        if sentence and effect > 0:
            display = self._settings["value_labels"].get(name, {}).get(str(value)) or format_value(value)
            reason["reason"] = sentence.format(label=label, value=display)
        return reason

    def _iter_chunks(self, differing: np.ndarray) -> Iterator[slice]:
        """Yield slices of rows that need about ROWS_AT_ONCE rows of the graph each; `differing` counts columns."""
        calls = 2.0**differing if self._is_exact else 1.0 + len(self._orders) * differing
        ends = np.searchsorted(np.cumsum(calls), np.arange(ROWS_AT_ONCE, calls.sum() + ROWS_AT_ONCE, ROWS_AT_ONCE))
        start = 0
        for end in np.unique(np.minimum(ends + 1, len(calls))):
            yield slice(start, int(end))
            start = int(end)

    def _compute_sampled(self, cells: np.ndarray, differs: np.ndarray) -> np.ndarray:
        """Return the (n, k) mean effects over all orders; one evaluation for each step that changes a value."""
        rows, columns = differs.shape
        row, order, step = np.nonzero(differs[:, self._orders])  # steps of one order of one row are neighbours
        if not row.size:
            return np.zeros(differs.shape)
        path = row * len(self._orders) + order
        is_first = np.append(True, path[1:] != path[:-1])
        is_last = np.append(is_first[1:], True)
        inner = ~is_last
        joined = self._joined[:, order[inner], step[inner]]
        states = np.where(joined, cells[:, row[inner]], self._reference)
        scores = self._score_cells(np.concatenate([cells, states], axis=1))[1:]
        after = np.empty(len(row))
        after[inner], after[is_last] = scores[rows:], scores[:rows][row[is_last]]
        before = np.where(is_first, self.baseline, np.roll(after, 1))
        place = row * columns + self._orders[order, step]
        sums = np.bincount(place, after - before, minlength=rows * columns)
        return sums.reshape(rows, columns) / len(self._orders)

    def _compute_exact(self, cells: np.ndarray, differs: np.ndarray) -> np.ndarray:
        """Return the (n, k) Shapley values, from all subsets of the columns that differ from the reference row."""
        players = [np.flatnonzero(row) for row in differs]
        subsets = [np.arange(2 ** len(places)) for places in players]
        row = np.repeat(np.arange(len(players)), [len(subset) for subset in subsets])
        joined = np.zeros((differs.shape[1], len(row)), dtype=bool)
        starts = np.cumsum([0, *(len(subset) for subset in subsets)])
        for start, subset, places in zip(starts, subsets, players, strict=False):
            joined[places, start : start + len(subset)] = subset >> np.arange(len(places))[:, None] & 1
        scores = self._score_cells(np.where(joined, cells[:, row], self._reference))[1:]
        effects = np.zeros(differs.shape)
        for number, (start, places) in enumerate(zip(starts, players, strict=False)):
            effects[number, places] = compute_shapley(scores[start : start + 2 ** len(places)])
        return effects

    def _score_cells(self, cells: np.ndarray) -> np.ndarray:
        """Return the (1 + n,) probabilities of the reference row and of n rows; `cells` is (k, n).

        With the reference row, a call never has a single row: a product of matrices rounds one row in another way.
        """
        padded = np.concatenate([self._reference, self._reference, cells], axis=1)[:, :, None]
        types = (object if is_text else np.float32 for is_text in self._text)
        inputs = {
            name: column.astype(kind, copy=False)
            for name, column, kind in zip(self.columns, padded, types, strict=True)
        }
        return np.asarray(self._score(inputs), dtype=float)[1:]


def compute_shapley(scores: np.ndarray) -> np.ndarray:
    """Return the (m,) Shapley values of a game; bit i of the index of the (2^m,) scores: player i has joined."""
    players = len(scores).bit_length() - 1
    subsets = np.arange(len(scores))
    sizes = np.array([subset.bit_count() for subset in range(len(scores))])
    weights = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    values = np.empty(players)
    for player in range(players):
        without = subsets[subsets >> player & 1 == 0]
        values[player] = (weights[sizes[without]] * (scores[without | 1 << player] - scores[without])).sum()
    return values


def _to_cell(value: Any, is_text: bool) -> Any:
    """Return a value of the reference row as the graph takes it."""
    if is_text:
        return "" if value is None else str(value)
    return np.float32("nan" if value is None else value)


def to_plain_value(value: Any) -> Any:
    """Return a raw value for JSON: whole numbers as integers, infinity as text, a missing value as None."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value or (None if value == "" else value)
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) <= LARGEST_WHOLE_NUMBER else value


def format_value(value: Any) -> str:
    """Return a raw value in a sentence."""
    if value is None:
        return "missing"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _round(number: float) -> float:
    return round(float(number), DECIMALS) + 0.0
