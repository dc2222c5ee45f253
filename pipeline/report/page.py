"""The content of a report: its headline, what failed, and its sections in their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from pipeline.report.blocks import BAD, CODE, GOOD, QUIET, WARN, Cell, Code, Section, Several, Table, Text, Words, cells
from pipeline.report.format import NO_BREAK, difference, interval, moment, plural, seconds
from pipeline.report.gather import Found
from pipeline.report.sections import data, evaluation, gate, lineage, metrics, model_card
from pipeline.report.step_states import FAILED, NOT_ASKED, RAN, REUSED, STOPPED, StepShown, seconds_of
from stepkit.model.metric_table import number
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
    tiles: Several[Tile]
    failures: Several[Code]
    lost: Several[Words]
    sections: Several[Section]
    made: Words

    def shortened(self) -> Page:
        """Return the page with the sections that matter most, without what they show only on request."""
        sections = [_shortened(section) for section in self.sections if section.id in IN_SHORT]
        return replace(self, lost=self.lost[:3], failures=self.failures[:2], sections=sections)


def _shortened(section: Section) -> Section:
    kept = [one for one in section.blocks if not (isinstance(one, Table) and one.folded)]
    return replace(section, blocks=[one.first(MOST_ROWS) if isinstance(one, Table) else one for one in kept])


def page_of(found: Found) -> Page:
    kind, outcome = outcome_of(found)
    sections = [
        steps_section(found),
        metrics.metrics_section(found),
        gate.gate_section(found),
        evaluation.plots_section(found),
        evaluation.slices_section(found),
        evaluation.importance_section(found),
        data.data_section(found),
        model_card.card_section(found),
        lineage.lineage_section(found),
        lineage.again_section(found),
    ]
    return Page(
        title=title_of(found),
        kind=kind,
        outcome=outcome,
        about=f"Pipeline run {found.run.info.run_id} in experiment {found.experiment}, "
        f"begun {moment(found.run.info.start_time)}",
        tiles=tiles_of(found),
        failures=failures_of(found),
        lost=found.lost,
        sections=[section for section in sections if section.blocks],
        made=moment(found.made),
    )


def title_of(found: Found) -> str:
    name, version = found.tag("register", "model_name"), found.tag("register", "model_version")
    return f"Run report: {name} version {version}" if version else f"Run report: {found.run.info.run_name}"


def outcome_of(found: Found) -> tuple[str, str]:
    """How the run came out, worst first: a failure comes before anything that went well."""
    status = found.run.info.status
    failed = [step.name for step in found.steps if step.state == FAILED]
    if failed:
        return BAD, f"Failed at {' and '.join(failed)}"
    if status == "KILLED" or any(step.state == STOPPED for step in found.steps):
        return BAD, "Interrupted before its end"
    if status == "FAILED":
        return BAD, "Rejected by the gate, and failed for it" if outcome_tag(found) == REJECTED else "Failed"
    if status == "RUNNING":
        return WARN, "Not finished: this page was made while it ran"
    if found.runs.get("evaluate") is None:
        return QUIET, f"Finished; no model was judged ({plural(len(found.runs), 'step')})"
    return _judged(found)


def _judged(found: Found) -> tuple[str, str]:
    said = found.tag("register", SUMMARY)
    more = f": {said}" if said else ""
    outcomes = {
        REJECTED: (WARN, f"Rejected by the gate{more}"),
        AS_GOOD: (QUIET, f"As good as the champion, which stays{more}"),
        PASSED: (GOOD, f"Passed the gate{more or '; not registered'}"),
    }
    return outcomes.get(outcome_tag(found), (WARN, "Finished, but its verdict is not known"))


def outcome_tag(found: Found) -> str:
    """The gate's outcome; the run's tag counts where verdict.json is lost."""
    return found.verdict.outcome if found.verdict else found.tag("evaluate", VERDICT)


def tiles_of(found: Found) -> list[Tile]:
    tiles = []
    if found.evaluation:
        auc = found.evaluation.estimate("roc_auc")
        tiles.append(Tile("Test ROC AUC", number(auc.value), interval(auc.low, auc.high) or "no interval computed"))
        tiles.append(_against_champion(found))
    version = found.tag("register", "model_version")
    tiles.append(Tile("Model version", version or "none", _standing(found)))
    ran, reused = (sum(step.state == state for step in found.steps) for state in (RAN, REUSED))
    took = seconds(seconds_of(found.run)) or "not finished"
    return [*tiles, Tile("Took", took, f"{ran} ran, {reused} reused")]


def _against_champion(found: Found) -> Tile:
    theirs = metrics.champion_of(found)
    ours = metrics.differences_of(found).get("roc_auc")
    if theirs is None or ours is None:
        return Tile("Against the champion", "not compared", metrics.why_not_compared(found))
    span = interval(ours.low, ours.high) or "no interval computed"
    return Tile(f"AUC against version {theirs.version}", difference(ours.value), span)


def _standing(found: Found) -> str:
    if not found.tag("register", "model_version"):
        return "not registered"
    if found.registered is None:
        return "not in the registry now"
    aliases = ", ".join(found.registered.aliases)
    return f"now {aliases}" if aliases else "without an alias now"


def failures_of(found: Found) -> list[Code]:
    """The message of each failed step; without any, that of the pipeline's own run."""
    failures = [Code(f"{step.name} {step.state} (run {step.run_id})", step.error) for step in found.steps if step.error]
    error = found.run.data.tags.get(ERROR, "")
    if error and not any(error in one.text or one.text in error for one in failures):
        failures.append(Code("what the pipeline's run says", error))
    if not failures and found.run.info.status in ("FAILED", "KILLED"):
        failures.append(Code("no message", f"The run ended as {found.run.info.status}, and no step left a message."))
    return failures


def steps_section(found: Found) -> Section:
    if not found.runs:
        return Section("steps", "Steps", [Text("This run names none of its steps: none was begun.", WARN)])
    shown = [step for step in found.steps if step.state != NOT_ASKED]
    why = any(step.why for step in shown)
    headings = ["step", "state", "took", *(["why again"] if why else []), "what it said"]
    return Section("steps", "Steps", [Table("Steps of the pipeline", headings, [_step_row(one, why) for one in shown])])


def _step_row(step: StepShown, why: bool) -> list[Cell]:
    took = seconds(step.seconds)
    if took and step.state not in (RAN, FAILED, STOPPED):
        took = f"{took},{NO_BREAK}earlier"
    return cells(
        Cell(step.name, CODE),
        Cell(step.state, _STATE_KINDS.get(step.state, "")),
        took,
        *([step.why] if why else []),
        step.said or step.error.strip().partition("\n")[0],
    )
