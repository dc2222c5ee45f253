"""Groups of the rows of a table by one column: one per code, or per band of a number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from stepkit.table.columns import Column
from stepkit.table.tables import to_plain_text

MISSING = "missing"
MOST_GROUPS = 30
"""Largest number of groups of a column. With more codes, those with the most rows are taken."""


def iter_groups(values: pd.Series, column: Column, bands: list[float]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (value, label, (n,) mask) for each code or band that contains any of n values."""
    order = make_band_names(bands) if bands else [*map(str, column.labels), *map(str, column.values or [])]
    if bands:
        edges = [-np.inf, *bands, np.inf]
        texts = pd.Series(pd.cut(values.astype(float), edges, right=False, labels=order), dtype=object)
    else:
        texts = to_plain_text(values).astype(object)
    texts = texts.where(texts.notna() & (texts != ""), MISSING)
    places_of_rows, names = pd.factorize(texts)  # numbers compare faster than texts, of which there may be millions
    largest = names[np.argsort(-np.bincount(places_of_rows), kind="stable")][:MOST_GROUPS]
    places = {name: place for place, name in enumerate(dict.fromkeys(order))}
    for text in sorted(largest, key=lambda text: (places.get(text, len(places)), text)):
        yield text, column.get_label(text), places_of_rows == names.get_loc(text)


def make_band_names(bands: list[float]) -> list[str]:
    """Return the k + 1 names of the bands between k ascending limits."""
    between = [f"{low:g} to below {high:g}" for low, high in pairwise(bands)]
    return [f"below {bands[0]:g}", *between, f"{bands[-1]:g} and above"]
