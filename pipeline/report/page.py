"""The content of a report: its headline, what failed, and its sections in their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from pipeline.report.blocks import (
    BAD,
    CODE,
    GOOD,
    QUIET,
    WARN,
    Cell,
    Code,
    Items,
    Section,
    Table,
    Text,
    Words,
    make_cells,
)
from pipeline.report.format import NO_BREAK, format_difference, format_interval, format_seconds, format_time, pluralize
from pipeline.report.gather import PipelineResult
from pipeline.report.sections import data, evaluation, gate, lineage, metrics, model_card
from pipeline.report.step_states import FAILED, NOT_REQUESTED, RAN, REUSED, STOPPED, StepRow, compute_seconds
from stepkit.model.metric_table import format_metric
from stepkit.settings.evaluate import AS_GOOD, PASSED, REJECTED, VERDICT
from stepkit.store.lineage import ERROR, SUMMARY

IN_SHORT, MOST_ROWS = ("steps", "metrics", "gate", "data"), 60
"""The sections of a shortened report, and the rows of each table there."""

_STATE_KINDS = {FAILED: BAD, STOPPED: BAD, RAN: GOOD}


@dataclass(frozen=True)
class Tile:
    """One of the figures at the top: what it is, its value, and a note."""

    label: Words
    value: Words
    note: Words = ""


@dataclass(frozen=True)
class Page:
    """A report before it is HTML or Markdown.

    Attributes:
        kind: how the run came out: GOOD, BAD, WARN or QUIET; `outcome` says it in words.
        failures: the messages of what failed.
        lost: what is missing on this page, one sentence each.
    """

    title: Words
    kind: Annotated[str, Field(pattern="^(good|bad|warn|quiet)$")]
    outcome: Words
    about: Words
    tiles: Items[Tile]
    failures: Items[Code]
    lost: Items[Words]
    sections: Items[Section]
    made: Words

    def shorten(self) -> Page:
        """Return the page with the sections that matter most, without what they show only on request."""
        sections = [_shorten_section(section) for section in self.sections if section.id in IN_SHORT]
        return replace(self, lost=self.lost[:3], failures=self.failures[:2], sections=sections)


def _shorten_section(section: Section) -> Section:
    kept = [one for one in section.blocks if not (isinstance(one, Table) and one.folded)]
    return replace(section, blocks=[one.first(MOST_ROWS) if isinstance(one, Table) else one for one in kept])


def build_page(found: PipelineResult) -> Page:
    kind, outcome = describe_outcome(found)
    sections = [
        make_steps_section(found),
        metrics.make_metrics_section(found),
        gate.make_gate_section(found),
        evaluation.make_plots_section(found),
        evaluation.make_slices_section(found),
        evaluation.make_importance_section(found),
        data.make_data_section(found),
        model_card.make_card_section(found),
        lineage.make_lineage_section(found),
        lineage.make_reproduction_section(found),
    ]
    return Page(
        title=make_title(found),
        kind=kind,
        outcome=outcome,
        about=f"Pipeline run {found.run.info.run_id} in experiment {found.experiment}, "
        f"begun {format_time(found.run.info.start_time)}",
        tiles=make_tiles(found),
        failures=list_failures(found),
        lost=found.lost,
        sections=[section for section in sections if section.blocks],
        made=format_time(found.made),
    )


def make_title(found: PipelineResult) -> str:
    name, version = found.tag("register", "model_name"), found.tag("register", "model_version")
    return f"Run report: {name} version {version}" if version else f"Run report: {found.run.info.run_name}"


def describe_outcome(found: PipelineResult) -> tuple[str, str]:
    """How the run came out, worst first: a failure comes before anything that went well."""
    status = found.run.info.status
    failed = [step.name for step in found.steps if step.state == FAILED]
    if failed:
        return BAD, f"Failed at {' and '.join(failed)}"
    if status == "KILLED" or any(step.state == STOPPED for step in found.steps):
        return BAD, "Interrupted before its end"
    if status == "FAILED":
        return BAD, "Rejected by the gate, and failed for it" if get_outcome(found) == REJECTED else "Failed"
    if status == "RUNNING":
        return WARN, "Not finished: this page was made while it ran"
    if found.runs.get("evaluate") is None:
        return QUIET, f"Finished; no model was judged ({pluralize(len(found.runs), 'step')})"
    return _describe_verdict(found)


def _describe_verdict(found: PipelineResult) -> tuple[str, str]:
    said = found.tag("register", SUMMARY)
    more = f": {said}" if said else ""
    outcomes = {
        REJECTED: (WARN, f"Rejected by the gate{more}"),
        AS_GOOD: (QUIET, f"As good as the champion, which stays{more}"),
        PASSED: (GOOD, f"Passed the gate{more or '; not registered'}"),
    }
    return outcomes.get(get_outcome(found), (WARN, "Finished, but its verdict is not known"))


def get_outcome(found: PipelineResult) -> str:
    """The gate's outcome; the run's tag counts where verdict.json is lost."""
    return found.verdict.outcome if found.verdict else found.tag("evaluate", VERDICT)


def make_tiles(found: PipelineResult) -> list[Tile]:
    tiles = []
    if found.evaluation:
        auc = found.evaluation.get_estimate("roc_auc")
        tiles.append(
            Tile("Test ROC AUC", format_metric(auc.value), format_interval(auc.low, auc.high) or "no interval computed")
        )
        tiles.append(_make_champion_tile(found))
    version = found.tag("register", "model_version")
    tiles.append(Tile("Model version", version or "none", _describe_version(found)))
    ran, reused = (sum(step.state == state for step in found.steps) for state in (RAN, REUSED))
    took = format_seconds(compute_seconds(found.run)) or "not finished"
    return [*tiles, Tile("Took", took, f"{ran} ran, {reused} reused")]


def _make_champion_tile(found: PipelineResult) -> Tile:
    theirs = metrics.find_champion(found)
    ours = metrics.get_differences(found).get("roc_auc")
    if theirs is None or ours is None:
        return Tile("Against the champion", "not compared", metrics.explain_no_comparison(found))
    span = format_interval(ours.low, ours.high) or "no interval computed"
    return Tile(f"AUC against version {theirs.version}", format_difference(ours.value), span)


def _describe_version(found: PipelineResult) -> str:
    if not found.tag("register", "model_version"):
        return "not registered"
    if found.registered is None:
        return "not in the registry now"
    aliases = ", ".join(found.registered.aliases)
    return f"now {aliases}" if aliases else "without an alias now"


def list_failures(found: PipelineResult) -> list[Code]:
    """The message of each failed step; without any, that of the pipeline's own run."""
    failures = [Code(f"{step.name} {step.state} (run {step.run_id})", step.error) for step in found.steps if step.error]
    error = found.run.data.tags.get(ERROR, "")
    if error and not any(error in one.text or one.text in error for one in failures):
        failures.append(Code("what the pipeline's run says", error))
    if not failures and found.run.info.status in ("FAILED", "KILLED"):
        failures.append(Code("no message", f"The run ended as {found.run.info.status}, and no step left a message."))
    return failures


def make_steps_section(found: PipelineResult) -> Section:
    if not found.runs:
        return Section("steps", "Steps", [Text("This run names none of its steps: none was begun.", WARN)])
    shown = [step for step in found.steps if step.state != NOT_REQUESTED]
    why = any(step.why for step in shown)
    headings = ["step", "state", "took", *(["why again"] if why else []), "what it said"]
    return Section(
        "steps", "Steps", [Table("Steps of the pipeline", headings, [_make_step_row(one, why) for one in shown])]
    )


def _make_step_row(step: StepRow, why: bool) -> list[Cell]:
    took = format_seconds(step.seconds)
    if took and step.state not in (RAN, FAILED, STOPPED):
        took = f"{took},{NO_BREAK}earlier"
    return make_cells(
        Cell(step.name, CODE),
        Cell(step.state, _STATE_KINDS.get(step.state, "")),
        took,
        *([step.why] if why else []),
        step.said or step.error.strip().partition("\n")[0],
    )
