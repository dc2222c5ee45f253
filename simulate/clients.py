"""Synthetic credit card clients with the columns of "Default of Credit Card Clients".

Every client is a pure function of one row of uniform numbers and of the aggregate figures in figures.json. Columns are
drawn in causal order: person, limit, statuses and bills month by month, payments, default. Finally, a few rows are
repeated. Months run from April (0) to September (5) here; the names of the table run the other way.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr, ndtri

from simulate import figures as figs
from simulate.figures import Figures, Floats, Ints

# Chunk i always has child seed i, so another chunk size gives another table for the same seed.
CHUNK_ROWS = 50_000
# The real table has 35 rows of 30,000 that repeat another client (0.12 %). The sample has them too, so that the
# preprocess step has rows to drop.
REPEATED_SHARE = 0.001

# The uniform numbers that decide each part of a client. The linked numbers (limit, then bills and payments from April
# on) are correlated as in the figures.
DRAWS: dict[str, slice | int] = {
    "linked": slice(0, 13),
    "statuses": slice(13, 19),
    "rounding": slice(19, 25),
    "person": 25,
    "age": 26,
    "default": 27,
    "repeats": slice(28, 30),
}
DRAWS_PER_CLIENT = 30


def pick(frequencies: Floats, cell: Ints, uniform: Floats) -> Ints:
    """Return for each client (n) the first choice whose cumulative frequency exceeds `uniform`."""
    return np.asarray((uniform[:, None] >= frequencies[cell]).sum(axis=1))


def interpolate_quantiles(table: Floats, grid: Floats, cell: Ints, uniform: Floats) -> Floats:
    """Return for each client (n) the `uniform` quantile of its cell, linear between the points of `grid`."""
    inside = np.clip(uniform, grid[0], grid[-1])
    left = np.clip(np.searchsorted(grid, inside, side="right") - 1, 0, len(grid) - 2)
    share = (inside - grid[left]) / (grid[left + 1] - grid[left])
    low, high = table[cell, left], table[cell, left + 1]
    return np.asarray(low + share * (high - low))


def round_to_dollars(amounts: Floats) -> Ints:
    """Return amounts rounded to whole dollars."""
    return np.rint(amounts).astype(np.int64)


def link_draws(figures: Figures, uniform: Floats) -> Floats:
    """Return `uniform` (n x 13) as correlated uniform numbers (a Gaussian copula).

    Unlike @, einsum sums each row in an order that is independent of the number of rows, so a prefix stays equal to
    the last bit.
    """
    scores = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    return np.asarray(ndtr(np.einsum("nk,jk->nj", scores, figures.mixing)))


def draw_accounts(figures: Figures, education: Ints, limit: Ints, statuses: Floats, bills: Floats) -> tuple[Ints, Ints]:
    """Return statuses and bills (n x 6 each), month by month from April, from two tables of uniform numbers.

    A status depends on the two statuses before it and the last bill. A bill depends on the last bill and the statuses
    around it.
    """
    first = (
        pick(figures.first_status, figs.assign_first_status_cells(limit, education), statuses[:, 0])
        + figs.LOWEST_STATUS
    )
    codes = [first, first]  # the data begins in April, so April is used for March too
    first_cell = figs.assign_first_bill_cells(limit, first)
    uses = [draw_use(figures.grid, figures.nothing_first, figures.first_bill, first_cell, 0.0, bills[:, 0])]
    for month in range(1, figs.MONTHS):
        use, cell = uses[-1], figs.assign_status_cells(limit, uses[-1], codes[-2], codes[-1])
        codes.append(pick(figures.next_status[month - 1], cell, statuses[:, month]) + figs.LOWEST_STATUS)
        cell = figs.assign_bill_cells(limit, use, codes[-2], codes[-1])
        carried = np.where(figs.has_carried_debt(use, codes[-2], codes[-1]), use, 0.0)
        uses.append(draw_use(figures.grid, figures.nothing_next, figures.next_bill, cell, carried, bills[:, month]))
    return np.column_stack(codes[1:]), round_to_dollars(np.column_stack(uses) * limit[:, None])


def draw_use(
    grid: Floats, nothing: Floats, table: Floats, cell: Ints, carried: Floats | float, uniform: Floats
) -> Floats:
    """Return bills (n) as a share of the limit: nothing, or what is carried from last month plus what is drawn."""
    drawn = interpolate_quantiles(table, grid, cell, rescale_above(uniform, nothing[cell]))
    return np.where(uniform < nothing[cell], 0.0, carried + drawn)


def rescale_above(uniform: Floats, nothing: Floats, full: Floats | float = 0.0) -> Floats:
    """Return the position of `uniform`, 0 to 1, between the share of `nothing` below and the share of `full` above."""
    return (uniform - nothing) / np.maximum(1 - nothing - full, 1e-9)


def draw_payments(figures: Figures, bills: Ints, statuses: Ints, uniform: Floats, rounding: Floats) -> Ints:
    """Return payments (n x 6), each from the bill of the previous month and the two statuses around it.

    Clients with the lowest `uniform` pay nothing, those with the highest pay exactly the bill.
    """
    due, before, month = figs.shift_by_month(bills), figs.shift_by_month(statuses), np.arange(figs.MONTHS)
    kind = figs.assign_kind_cells(due, before, statuses)
    nothing, full = figures.nothing_paid[month, kind], figures.full_paid[month, kind]
    parts = figures.parts.reshape(-1, len(figures.grid))  # the cells of all months below each other
    cell = month * figs.PART_CELLS + figs.assign_part_cells(due, before)
    share = interpolate_quantiles(parts, figures.grid, cell, rescale_above(uniform, nothing, full))
    other = np.maximum(share * np.maximum(due, 1), 1)
    payments = np.where(uniform < nothing, 0.0, np.where(uniform >= 1 - full, np.maximum(due, 0), other))
    return round_payments(figures, payments, due, rounding)


def round_payments(figures: Figures, payments: Floats, due: Ints, uniform: Floats) -> Ints:
    """Return whole payments (n x 6), of which as many are multiples of 1,000, 500 or 100 as in the real data.

    Payments of nothing and of exactly the bill are not rounded.
    """
    chance = figures.rounding[figs.assign_bands(payments, figs.AMOUNT_EDGES)]
    unit = figs.ROUND_UNITS[(uniform[..., None] >= chance).sum(axis=-1)]
    rounded = np.ceil(payments / unit).astype(np.int64) * unit
    return np.where((payments == 0) | (payments == due), round_to_dollars(payments), rounded)


def compute_default_chances(risk: dict[str, float], table: pd.DataFrame) -> Floats:
    """Return each client's probability (n) of default next month."""
    terms = figs.compute_risk_terms(table)
    return np.asarray(expit(risk["intercept"] + sum(terms[name] * risk[name] for name in terms.columns)))


def repeat_rows(table: pd.DataFrame, uniform: Floats) -> pd.DataFrame:
    """Return `table` with about REPEATED_SHARE of its rows replaced by an earlier row of the same chunk."""
    place = np.arange(len(table))
    repeats = uniform[:, 0] < REPEATED_SHARE
    source = (uniform[:, 1] * place).astype(np.int64)
    # A repeat of a repeat would copy a row that was replaced.
    return table.take(np.where(repeats & ~repeats[source], source, place)).reset_index(drop=True)


def draw_clients(figures: Figures, uniform: Floats) -> pd.DataFrame:
    """Return clients (n x 24, all columns but ID) from `uniform` (n x 30); row i needs no row after it."""
    draw = {name: uniform[:, columns] for name, columns in DRAWS.items()}
    linked = link_draws(figures, draw["linked"])
    everyone = np.zeros(len(uniform), dtype=np.int64)  # SEX, EDUCATION and MARRIAGE are drawn together
    people = figures.people[pick(figures.people_cumulative, everyone, draw["person"])]
    age = figures.ages[pick(figures.ages_cumulative, figs.assign_age_cells(people), draw["age"])]
    limit = figures.limits[pick(figures.limits_cumulative, figs.assign_limit_cells(people, age), linked[:, 0])]
    statuses, bills = draw_accounts(figures, people[:, 1], limit, draw["statuses"], linked[:, 1:7])
    payments = draw_payments(figures, bills, statuses, linked[:, 7:], draw["rounding"])
    names = ("LIMIT_BAL", *figs.PEOPLE, "AGE", *figs.STATUSES, *figs.BILLS, *figs.PAYMENTS)
    values = np.column_stack([limit, people, age, statuses, bills, payments])
    table = pd.DataFrame(values, columns=list(names))
    target = (draw["default"] < compute_default_chances(figures.risk, table)).astype(np.int64)
    return repeat_rows(table.assign(**{figs.TARGET: target}), draw["repeats"])


def iter_client_chunks(rows: int, seed: int, chunk_rows: int = CHUNK_ROWS) -> Iterator[pd.DataFrame]:
    """Yield `rows` clients (25 columns, whole numbers) in tables of at most `chunk_rows`; ID runs on from 1.

    More rows of the same seed begin with the same clients, to the last value. Raises ValueError for rows < 1.
    """
    if rows < 1:
        raise ValueError(f"rows: expected at least 1 (found {rows})")
    figures = figs.read_figures()
    for number, start in enumerate(range(0, rows, chunk_rows)):
        count = min(chunk_rows, rows - start)
        # This is the child that SeedSequence(seed).spawn() gives, without creating the earlier ones.
        child = np.random.SeedSequence(seed, spawn_key=(number,))
        uniform = np.random.default_rng(child).random((count, DRAWS_PER_CLIENT))
        ids = np.arange(start + 1, start + count + 1)
        yield draw_clients(figures, uniform).assign(ID=ids)[list(figs.COLUMNS)]


def simulate_clients(rows: int, seed: int) -> pd.DataFrame:
    """Return `rows` clients (rows x 25) at once; use `iter_client_chunks` to bound memory."""
    return pd.concat(list(iter_client_chunks(rows, seed)), ignore_index=True)
