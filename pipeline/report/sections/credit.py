"""Credit sheet: Gini and KS, gains by decile of the score, and the strategy curve of possible cutoffs."""

from __future__ import annotations

from pipeline.report.blocks import QUIET, WARN, Block, Cell, Section, Table, Text, list_figures, make_cells
from pipeline.report.format import format_count, format_interval, format_percent
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Credit, Cutoff, Decile, Estimate, Strategy
from pipeline.report.sections.metrics import format_plain, get_class_names
from stepkit.model.metric_table import format_metric

TITLE = "Credit sheet"
FIGURES = (
    (
        "gains.png",
        "Gains by decile: observed and predicted default rate, and the share of all defaults captured so far",
        "default rate, mean predicted probability and captured defaults by decile of the score",
    ),
    (
        "strategy.png",
        "Strategy curve: the default rate among the approved, and the expected cost, at each approval rate",
        "default rate among the approved rows and expected cost per row by approval rate, with the threshold marked",
    ),
)


def get_credit(result: PipelineResult) -> Credit | None:
    """Return the credit sheet; None if the run has none, for example because an earlier release evaluated it."""
    return result.evaluation.credit if result.evaluation else None


def make_credit_section(result: PipelineResult) -> Section:
    """Return the credit sheet. The section is empty if the run computed none."""
    credit = get_credit(result)
    if credit is None:
        return Section("credit", TITLE)
    if credit.left_out:
        return Section("credit", TITLE, [Text(f"No credit sheet: {credit.left_out}.", WARN)])
    _, positive = get_class_names(result)
    blocks: list[Block] = [
        Text(f"{describe_discrimination(credit)}. {describe_strategy(credit)}"),
        Text(
            f"A default is a row of class {positive} of the test split. Decile 1 has the highest probabilities; equal "
            "probabilities share a decile. Predicted: mean probability. Captured: share of all defaults so far. Lift: "
            "default rate divided by that of all rows.",
            QUIET,
        ),
        make_gains_table(credit.gains),
        *list_figures(result.pictures, *FIGURES),
    ]
    if credit.strategy:
        blocks.append(make_strategy_table(credit.strategy))
    return Section("credit", TITLE, blocks)


def describe_discrimination(credit: Credit) -> str:
    """Return Gini and KS with their intervals, and the probability at which KS occurs."""
    gini = f"Gini {format_metric(credit.gini.value)}{_format_limits(credit.gini)}"
    ks = f"KS {format_metric(credit.ks.value)}{_format_limits(credit.ks)}"
    return f"{gini}, {ks} at probability {format_plain(credit.ks.score)}"


def _format_limits(estimate: Estimate) -> str:
    limits = format_interval(estimate.low, estimate.high)
    return f" ({limits})" if limits else ""


def describe_strategy(credit: Credit) -> str:
    """Return approval rate and default rate at the model's threshold, and the default rate of all rows, in words."""
    if credit.strategy is None:
        return ""
    chosen = credit.strategy.chosen
    rows, defaults = (sum(getattr(decile, name) for decile in credit.gains) for name in ("rows", "defaults"))
    approved = (
        f"The threshold {format_plain(chosen.cutoff)} approves {format_percent(chosen.approval_rate)} of the rows"
    )
    if chosen.default_rate is None:
        return f"{approved}."
    overall = f", compared with {format_percent(defaults / rows)} of all rows" if rows else ""
    return f"{approved}, of which {format_percent(chosen.default_rate)} default{overall}."


def list_credit_facts(result: PipelineResult) -> list[tuple[str, str | Cell]]:
    """Return the facts of the model card; an empty list without a credit sheet."""
    credit = get_credit(result)
    if credit is None or credit.left_out:
        return []
    return [("discrimination", f"{describe_discrimination(credit)}."), ("strategy", describe_strategy(credit))]


def make_gains_table(gains: list[Decile]) -> Table:
    """Return the gains table, the riskiest decile first."""
    rows = [
        make_cells(
            str(decile.decile),
            format_count(decile.rows),
            format_count(decile.defaults),
            format_percent(decile.default_rate),
            format_percent(decile.mean_probability),
            format_percent(decile.capture),
            f"{decile.lift:.2f}",
            f"{format_metric(decile.lowest)} to {format_metric(decile.highest)}",
        )
        for decile in gains
    ]
    headings = ["decile", "rows", "defaults", "default rate", "predicted", "captured", "lift", "probability"]
    return Table("Gains by decile", headings, rows, numbers=True)


def make_strategy_table(strategy: Strategy) -> Table:
    """Return about one cutoff per tenth of the approval rate, and the threshold, from most to fewest approved."""
    tenths = [_find_nearest(strategy.cutoffs, step / 10) for step in range(11)] if strategy.cutoffs else []
    cutoffs = sorted({strategy.chosen, *tenths}, key=lambda cutoff: -cutoff.approval_rate)
    rows = [
        make_cells(
            format_percent(cutoff.approval_rate) + (" (threshold)" if cutoff == strategy.chosen else ""),
            format_metric(cutoff.cutoff),
            format_percent(cutoff.default_rate) or "none approved",
            format_metric(cutoff.cost_per_row),
        )
        for cutoff in cutoffs
    ]
    headings = ["approval rate", "cutoff", "default rate among approved", "expected cost per row"]
    caption = "Strategy curve: rows with a probability below the cutoff are approved"
    return Table(caption, headings, rows, numbers=True, folded=True)


def _find_nearest(cutoffs: list[Cutoff], approval_rate: float) -> Cutoff:
    return min(cutoffs, key=lambda cutoff: abs(cutoff.approval_rate - approval_rate))
