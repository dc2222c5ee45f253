"""Synthetic credit card clients: rows and a seed -> the table of "Default of Credit Card Clients".

Every client is a pure function of one row of uniform numbers and of the aggregate figures in figures.json,
drawn in causal order: person -> limit -> statuses and bills, month by month -> payments -> default.
At the end a few rows are repeated on purpose.
Months run from April (0) to September (5) in here; the table's own names run the other way.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr, ndtri

from simulate import figures as figs
from simulate.figures import Figures, Floats, Ints

# Part of what a seed means: chunk i always has child seed i, so another chunk size is another table.
CHUNK_ROWS = 50_000
# The real table holds 35 rows of 30,000 that repeat another client (0.12 %). They are made on purpose here,
# because a preprocess step must have something to drop.
REPEATED_SHARE = 0.001

# Which of a client's uniform numbers decides what. The linked ones (limit, then bills, then payments from
# April on) are tied to each other by the correlations in the figures.
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
    """Return `uniform` (n x 13) as uniform numbers that are tied to each other (a Gaussian copula).

    einsum and not @: its sum does not depend on the number of rows, so a prefix stays equal to the last bit.
    """
    scores = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    return np.asarray(ndtr(np.einsum("nk,jk->nj", scores, figures.mixing)))


def draw_accounts(figures: Figures, education: Ints, limit: Ints, statuses: Floats, bills: Floats) -> tuple[Ints, Ints]:
    """Return statuses and bills (n x 6 each), month by month from April, from two tables of uniform numbers.

    A status follows the two before it and the last bill; a bill the last bill and the statuses around it.
    """
    first = (
        pick(figures.first_status, figs.assign_first_status_cells(limit, education), statuses[:, 0])
        + figs.LOWEST_STATUS
    )
    codes = [first, first]  # nothing is known before April, so it stands in for March
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
    """Return where `uniform` lies, 0 to 1, between the share of `nothing` below and that of `full` above."""
    return (uniform - nothing) / np.maximum(1 - nothing - full, 1e-9)


def draw_payments(figures: Figures, bills: Ints, statuses: Ints, uniform: Floats, rounding: Floats) -> Ints:
    """Return payments (n x 6), each from the bill of the month before and the two statuses around it.

    The lowest `uniform` pay nothing, the highest exactly the bill.
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
    """Return whole payments (n x 6), as often a multiple of 1,000, 500 or 100 as people's payments are.

    Who pays nothing or exactly the bill stays exact.
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
    # A repeat of a repeat would copy a row that is no longer there.
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
        raise ValueError(f"cannot make {rows} clients; ask for at least 1 row")
    figures = figs.read_figures()
    for number, start in enumerate(range(0, rows, chunk_rows)):
        count = min(chunk_rows, rows - start)
        # The same child as SeedSequence(seed).spawn() would give, without making those before it.
        child = np.random.SeedSequence(seed, spawn_key=(number,))
        uniform = np.random.default_rng(child).random((count, DRAWS_PER_CLIENT))
        ids = np.arange(start + 1, start + count + 1)
        yield draw_clients(figures, uniform).assign(ID=ids)[list(figs.COLUMNS)]


def simulate_clients(rows: int, seed: int) -> pd.DataFrame:
    """Return `rows` clients (rows x 25) at once; use `chunks` where memory matters."""
    return pd.concat(list(iter_client_chunks(rows, seed)), ignore_index=True)
