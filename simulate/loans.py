"""Write a table of synthetic loans as CSV or Parquet, to try the pipeline on a table unlike the clients.

It has classes in words, an identifier with letters, text categories, dates, names, and remarks with quotes, commas and
line breaks.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from simulate.run import OneLineParser, get_ending, make_table_parser, open_table
from stepkit.files import replace_file
from stepkit.step.exit import exit_on_error
from stepkit.words import pluralize

log = logging.getLogger("simulate")

PURPOSES = {
    "car": 0.4,
    "house": -0.9,
    "studies": 0.0,
    "wedding, or another feast": 0.7,
    'a "rainy day"': 0.3,
    "école": -0.2,
}
WORK = {"employed": -0.5, "self-employed": 0.4, "retired": -0.2, "between jobs": 1.2, "öffentlicher Dienst": -0.8}
REGIONS = dict.fromkeys(("north", "south", "east", "west", "007", "North/South"), 0.0)
CHANNELS = {"branch": -0.1, "telephone": 0.1, "web": 0.0}
"""Categories, and the amount that each adds to the log odds of a lost loan."""

GIVEN_NAMES = ("Ada", "Boris", "Chloé", "Dmitri", "Ebele", "Fatma", "Gus", "Hồng", "Ines", "Jörg")
FAMILY_NAMES = ("O'Neil", "van der Berg", "Müller", "Sato", "Smith, Jr.", "Ødegård", "Nguyễn", "da Silva")
REMARKS = ("asked twice", "pays by standing order", 'wrote: "no hurry"', "moved,\nnew address to come", "", "n/a")
FIRST_DAY = np.datetime64("2019-01-01")
DAYS = 1500


def simulate_loans(rows: int, seed: int) -> pd.DataFrame:
    """Return a table of `rows` loans (rows x 12), `outcome` among them: repaid or lost, about one in four.

    The same `rows` and `seed` give the same table. Purpose, work, income and earlier delays affect the outcome; region,
    channel, names, dates and remarks do not.
    """
    draw = np.random.default_rng(seed)
    categories = {"purpose": PURPOSES, "work": WORK, "region": REGIONS, "channel": CHANNELS}
    drawn = {name: draw.choice(list(codes), rows) for name, codes in categories.items()}
    income = draw.lognormal(10.3, 0.5, rows).round(2)
    delays = draw.poisson(0.6, rows)
    odds = sum(pd.Series(drawn[name]).map(categories[name]).to_numpy() for name in ("purpose", "work"))
    # Low incomes are short of money, and high ones borrow more. No straight line follows both.
    odds = odds + 0.7 * delays + 3.0 * np.abs(np.log(income / np.exp(10.3))) - 3.13
    lost = draw.random(rows) < 1 / (1 + np.exp(-odds))
    return pd.DataFrame(
        {
            "loan no.": [f"L-{number:06}" for number in range(rows)],
            "customer": [f"{draw.choice(GIVEN_NAMES)} {draw.choice(FAMILY_NAMES)}" for _ in range(rows)],
            **{name: _add_gaps(texts, draw) for name, texts in drawn.items()},
            "income (net, €)": _add_gaps(income, draw),
            "delays": delays,
            "since": (FIRST_DAY + draw.integers(0, DAYS, rows)).astype(str),
            "letter": [f"{draw.integers(10**9)}-{draw.choice(REMARKS)}" for _ in range(rows)],
            "remark": draw.choice(REMARKS, rows),
            "outcome": np.where(lost, "lost", "repaid"),
        }
    )


def _add_gaps(values: np.ndarray, draw: np.random.Generator) -> pd.Series:
    """Return the values with 2 % of them missing."""
    return pd.Series(values).mask(draw.random(len(values)) < 0.02)


def make_parser() -> OneLineParser:
    """Return the parser of the flags."""
    return make_table_parser("loans", __doc__, rows=5000)


def main(argv: list[str] | None = None) -> None:
    """Write the table."""
    args = make_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    table = simulate_loans(args.rows, args.seed)
    ending = get_ending(args.output)
    with replace_file(args.output) as part:
        if ending == ".parquet":
            table.to_parquet(part, index=False)
        else:
            with open_table(part, ending) as put:
                put(table)
    lost = (table.outcome == "lost").sum()
    log.info("wrote %s: %s, %s of them lost", args.output, pluralize(len(table), "row"), f"{lost:,}")


if __name__ == "__main__":
    with exit_on_error():
        main()
