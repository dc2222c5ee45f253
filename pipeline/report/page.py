"""What stands on a report: its headline, what failed, the picture of the steps, and its sections in their order."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.report.blocks import BAD, CODE, GOOD, QUIET, WARN, Cell, Code, Section, Table, Text, cells
from pipeline.report.format import NO_BREAK, difference, interval, moment, number, plural, seconds
from pipeline.report.gather import Found
from pipeline.report.sections import data as data_section
from pipeline.report.sections import evaluation as parts
from pipeline.report.sections import gate, lineage, metrics, model_card
from pipeline.report.step_graph import Picture, picture_of
from pipeline.report.step_states import FAILED, NOT_ASKED, RAN, REUSED, RUNNING, STOPPED, StepShown
from stepkit.settings.evaluate import AS_GOOD, REJECTED, VERDICT
from stepkit.store.lineage import ERROR, SUMMARY

_STATE_KINDS = {FAILED: BAD, STOPPED: BAD, RAN: GOOD}


@dataclass(frozen=True)
class Tile:
    """One of the figures at the top: what it is, how large, and a word about it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A report before it is HTML or Markdown.

    Attributes:
        kind: how the run came out: GOOD, BAD, WARN or QUIET; `outcome` says it in words.
        failures: what went wrong, as it was said.
        lost: what should be on this page and is not, one sentence each.
    """

    title: str
    kind: str
    outcome: str
    about: str
    tiles: list[Tile]
    failures: list[Code]
    lost: list[str]
    across: Picture
    down: Picture
    sections: list[Section]
    made: str

    def shortened(self) -> Page:
        """Only what must be told."""
        kept = [section for section in self.sections if section.id in ("steps", "metrics", "gate")]
        return replace(self, lost=self.lost[:3], failures=self.failures[:2], sections=kept)


def page_of(found: Found) -> Page:
    kind, outcome = outcome_of(found)
    sections = [
        steps_section(found),
        metrics.metrics_section(found),
        gate.gate_section(found),
        parts.plots_section(found),
        parts.slices_section(found),
        parts.importance_section(found),
        data_section.data_section(found),
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
        across=picture_of(found.steps, down=False),
        down=picture_of(found.steps, down=True),
        sections=[section for section in sections if section.blocks],
        made=moment(found.made),
    )


def title_of(found: Found) -> str:
    name, version = found.tag("register", "model_name"), found.tag("register", "model_version")
    return f"Run report: {name} version {version}" if version else f"Run report: {found.run.info.run_name}"


def outcome_of(found: Found) -> tuple[str, str]:
    """How the run came out, worst first: a failure is told before anything that went well."""
    failed = [step.name for step in found.steps if step.state == FAILED]
    if failed:
        return BAD, f"Failed at {' and '.join(failed)}"
    if found.run.info.status == "KILLED" or any(step.state == STOPPED for step in found.steps):
        return BAD, "Interrupted before its end"
    if found.run.info.status == "FAILED":
        return BAD, "Rejected by the gate, and failed for it" if is_rejected(found) else "Failed"
    if found.run.info.status == RUNNING.upper():
        return WARN, "Not finished: this page was made while it ran"
    if "evaluate" not in found.runs or found.runs["evaluate"] is None:
        return QUIET, f"Finished; no model was judged ({plural(len(found.runs), 'step')})"
    return _judged(found)


def _judged(found: Found) -> tuple[str, str]:
    said = found.tag("register", SUMMARY)
    if is_rejected(found):
        return WARN, f"Rejected by the gate{f': {said}' if said else ''}"
    if outcome_tag(found) == AS_GOOD:
        return QUIET, f"As good as the champion, which stays{f': {said}' if said else ''}"
    if found.verdict is None and not found.tag("evaluate", VERDICT):
        return WARN, "Finished, but its verdict is not known"
    return GOOD, f"Passed the gate: {said}" if said else "Passed the gate; not registered"


def is_rejected(found: Found) -> bool:
    """Whether the gate said no to more than becoming champion; the run's tag counts where verdict.json is lost."""
    outcome = outcome_tag(found)
    return outcome == REJECTED or (found.verdict is not None and not found.verdict.passed and outcome != AS_GOOD)


def outcome_tag(found: Found) -> str:
    return (found.verdict.outcome if found.verdict else None) or found.tag("evaluate", VERDICT)


def tiles_of(found: Found) -> list[Tile]:
    evaluation = found.evaluation
    tiles = []
    if evaluation:
        auc = evaluation.metrics.get("roc_auc")
        span = interval(auc.low, auc.high) if auc else ""
        tiles.append(Tile("Test ROC AUC", number(auc.value if auc else None), span or "no interval computed"))
        tiles.append(_against_champion(found))
    version = found.tag("register", "model_version")
    aliases = ", ".join(found.registered.aliases) if found.registered else ""
    tiles.append(Tile("Model version", version or "none", _standing(found, version, aliases)))
    whole = found.run.info
    took = (whole.end_time - whole.start_time) / 1000 if whole.end_time else None
    ran = sum(step.state == RAN for step in found.steps)
    reused = sum(step.state == REUSED for step in found.steps)
    tiles.append(Tile("Took", seconds(took) or "not finished", f"{ran} ran, {reused} reused"))
    return tiles


def _against_champion(found: Found) -> Tile:
    theirs = metrics.champion_of(found)
    ours = metrics.differences_of(found).get("roc_auc")
    if theirs is None or ours is None:
        return Tile("Against the champion", "not compared", metrics.why_not_compared(found))
    span = interval(ours.low, ours.high)
    return Tile(f"AUC against version {theirs.version}", difference(ours.value), span or "no interval computed")


def _standing(found: Found, version: str, aliases: str) -> str:
    if not version:
        return "not registered"
    return f"now {aliases}" if aliases else "without an alias now" if found.registered else "not in the registry now"


def failures_of(found: Found) -> list[Code]:
    """What each failed step said; if none did, what the pipeline's own run says."""
    told = [
        Code(f"{step.name} {step.state} (run {step.run_id})", step.error, BAD) for step in found.steps if step.error
    ]
    error = found.run.data.tags.get(ERROR, "")
    if error and not any(error in one.text or one.text in error for one in told):
        told.append(Code("what the pipeline's run says", error, BAD))
    if not told and found.run.info.status in ("FAILED", "KILLED"):
        told.append(Code("no message", f"The run ended as {found.run.info.status}, and no step left a message.", BAD))
    return told


def steps_section(found: Found) -> Section:
    if not found.runs:
        nothing = "This run names none of its steps: none was begun, or it is of a version that did not note them."
        return Section("steps", "Steps", [Text(nothing, WARN)])
    shown = [step for step in found.steps if step.state != NOT_ASKED]
    why = any(step.why for step in shown)
    headings = ["step", "state", "took", *(["why again"] if why else []), "what it said"]
    return Section("steps", "Steps", [Table("Steps of the pipeline", headings, [_step_row(one, why) for one in shown])])


def _step_row(step: StepShown, why: bool) -> list[Cell]:
    took = seconds(step.seconds)
    if step.state not in (RAN, FAILED, STOPPED):
        took = f"{took}, earlier".replace(" ", NO_BREAK) if took else ""
    said = step.said or (step.error.strip().splitlines() or [""])[0]
    return cells(
        Cell(step.name, CODE),
        Cell(step.state, _STATE_KINDS.get(step.state, "")),
        took,
        *([step.why] if why else []),
        said,
    )
