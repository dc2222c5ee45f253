"""Page of a report: headline, failures and sections."""

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
    Block,
    Cell,
    Code,
    Items,
    Section,
    Table,
    Text,
    Words,
    make_cells,
)
from pipeline.report.format import NO_BREAK, format_difference, format_interval, format_seconds, format_time
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Evaluation
from pipeline.report.sections import (
    baselines,
    calibration,
    credit,
    data,
    evaluation,
    fairness,
    gate,
    information_value,
    lineage,
    metrics,
    model_card,
    periods,
    stability,
)
from pipeline.report.sections.metrics import format_plain
from pipeline.report.step_states import FAILED, NOT_REQUESTED, RAN, REUSED, STOPPED, StepRow, compute_seconds
from stepkit.model.metric_table import format_metric
from stepkit.settings.evaluate import AS_GOOD, PASSED, REJECTED, VERDICT
from stepkit.store.lineage import ERROR, SUMMARY
from stepkit.words import pluralize

IN_SHORT, MOST_ROWS = ("gate", "metrics", "credit", "steps", "data"), 60
"""Sections of a shortened report, and the longest table in it."""

FOLDED_IN_SHORT = "credit"
"""Section of a shortened report whose tables the reader has to unfold."""

_STATE_KINDS = {FAILED: BAD, STOPPED: BAD, RAN: GOOD}


@dataclass(frozen=True)
class Tile:
    """Figure at the top of the page."""

    label: Words
    value: Words
    note: Words = ""


@dataclass(frozen=True)
class Page:
    """Report, independent of HTML and Markdown.

    Attributes:
        kind: outcome of the run: GOOD, BAD, WARN or QUIET; `outcome` is its text.
        failures: error messages.
        lost: one sentence for each missing part of the page.
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
        """Return the page with the most important sections, without folded tables and figures."""
        sections = [_shorten_section(section) for section in self.sections if section.id in IN_SHORT]
        return replace(self, lost=self.lost[:3], failures=self.failures[:2], sections=sections)


def _shorten_section(section: Section) -> Section:
    blocks = list[Block]()
    for block in section.blocks:
        if isinstance(block, Table) and not block.folded:
            blocks.append(replace(block.limit_rows(MOST_ROWS), folded=section.id == FOLDED_IN_SHORT))
        elif isinstance(block, Text | Code):
            blocks.append(block)
    return replace(section, blocks=blocks)


def build_page(result: PipelineResult) -> Page:
    """Return the page of a pipeline run. Sections without content are left out."""
    kind, outcome = describe_outcome(result)
    sections = [
        gate.make_gate_section(result),
        metrics.make_metrics_section(result),
        credit.make_credit_section(result),
        calibration.make_calibration_section(result),
        baselines.make_baselines_section(result),
        evaluation.make_plots_section(result),
        evaluation.make_importance_section(result),
        information_value.make_information_section(result),
        stability.make_stability_section(result),
        evaluation.make_slices_section(result),
        fairness.make_fairness_section(result),
        periods.make_periods_section(result),
        make_steps_section(result),
        data.make_data_section(result),
        model_card.make_card_section(result),
        lineage.make_lineage_section(result),
        lineage.make_reproduction_section(result),
    ]
    return Page(
        title=make_title(result),
        kind=kind,
        outcome=outcome,
        about=f"Pipeline run {result.run.info.run_id} in experiment {result.experiment}, "
        f"started {format_time(result.run.info.start_time)}",
        tiles=make_tiles(result),
        failures=list_failures(result),
        lost=result.lost,
        sections=[section for section in sections if section.blocks],
        made=format_time(result.made),
    )


def make_title(result: PipelineResult) -> str:
    """Return a title with the model version, or with the name of the run if it registered none."""
    name, version = (result.get_tag("register", tag) for tag in ("model_name", "model_version"))
    return f"Run report: {name} version {version}" if version else f"Run report: {result.run.info.run_name}"


def describe_outcome(result: PipelineResult) -> tuple[str, str]:
    """Return the kind and the text of the outcome. A failure takes precedence over any success."""
    status = result.run.info.status
    failed = [step.name for step in result.steps if step.state == FAILED]
    if failed:
        return BAD, f"Failed at {' and '.join(failed)}"
    if status == "KILLED" or any(step.state == STOPPED for step in result.steps):
        return BAD, "Interrupted"
    if status == "FAILED":
        return BAD, "Failed: rejected by the gate" if get_outcome(result) == REJECTED else "Failed"
    if status == "RUNNING":
        return WARN, "Not finished: the run was in progress when this page was written"
    if result.runs.get("evaluate") is None:
        return QUIET, f"Finished {pluralize(len(result.runs), 'step')} without evaluating a model"
    return _describe_verdict(result)


def _describe_verdict(result: PipelineResult) -> tuple[str, str]:
    summary = result.get_tag("register", SUMMARY)
    details = f": {summary}" if summary else ""
    outcomes = {
        REJECTED: (WARN, f"Rejected by the gate{details}"),
        AS_GOOD: (QUIET, f"The champion stays{details}"),
        PASSED: (GOOD, f"Passed the gate{details or '; not registered'}"),
    }
    return outcomes.get(get_outcome(result), (WARN, "Finished, but the verdict is unknown"))


def get_outcome(result: PipelineResult) -> str:
    """Return the outcome of the gate, from a tag of the run if verdict.json is lost."""
    return result.verdict.outcome if result.verdict else result.get_tag("evaluate", VERDICT)


def make_tiles(result: PipelineResult) -> list[Tile]:
    """Return the figures at the top of the page."""
    tiles = []
    if result.evaluation:
        auc = result.evaluation.get_estimate("roc_auc")
        tiles.append(Tile("Test ROC AUC", format_metric(auc.value), _format_interval(auc)))
        tiles += _make_gini_tiles(result.evaluation)
        tiles.append(_make_champion_tile(result))
    version = result.get_tag("register", "model_version")
    tiles.append(Tile("Model version", version or "none", _describe_version(result)))
    ran, reused = (sum(step.state == state for step in result.steps) for state in (RAN, REUSED))
    duration = format_seconds(compute_seconds(result.run)) or "not finished"
    return [*tiles, Tile("Duration", duration, f"{pluralize(ran, 'step')} ran, {reused} reused")]


def _format_interval(estimate: Estimate) -> str:
    return format_interval(estimate.low, estimate.high) or "no interval computed"


def _make_gini_tiles(evaluation: Evaluation) -> list[Tile]:
    """Return a tile with Gini and KS, or an empty list if an earlier release evaluated the model."""
    if not (credit := evaluation.credit) or credit.gini.value is None:
        return []
    note = f"KS {format_metric(credit.ks.value)} at probability {format_plain(credit.ks.score)}"
    return [Tile("Gini", format_metric(credit.gini.value), note)]


def _make_champion_tile(result: PipelineResult) -> Tile:
    champion = metrics.find_champion(result)
    difference = metrics.get_differences(result).get("roc_auc")
    if champion is None or difference is None:
        return Tile("Compared with champion", "not compared", metrics.explain_no_comparison(result))
    label = f"AUC minus champion (version {champion.version})"
    return Tile(label, format_difference(difference.value), _format_interval(difference))


def _describe_version(result: PipelineResult) -> str:
    if not result.get_tag("register", "model_version"):
        return "not registered"
    if result.registered is None:
        return "no longer in the registry"
    aliases = ", ".join(result.registered.aliases)
    return f"now {aliases}" if aliases else "no alias now"


def list_failures(result: PipelineResult) -> list[Code]:
    """Return the error of each failed step, and the error of the pipeline run unless a step reports it."""
    failures = [
        Code(f"{step.name} {step.state} (run {step.run_id})", step.error) for step in result.steps if step.error
    ]
    error = result.run.data.tags.get(ERROR, "")
    if error and not any(error in failure.text or failure.text in error for failure in failures):
        failures.append(Code("pipeline run failed", error))
    if not failures and result.run.info.status in ("FAILED", "KILLED"):
        failures.append(
            Code("no message", f"The run ended with status {result.run.info.status}, and no step logged an error.")
        )
    return failures


def make_steps_section(result: PipelineResult) -> Section:
    """Return the table of steps, without steps that were not requested."""
    if not result.runs:
        return Section("steps", "Steps", [Text("No step was started.", WARN)])
    steps = [step for step in result.steps if step.state != NOT_REQUESTED]
    with_reasons = any(step.reason for step in steps)
    headings = ["step", "state", "duration", *(["reason to run"] if with_reasons else []), "summary"]
    rows = [_make_step_row(step, with_reasons) for step in steps]
    return Section("steps", "Steps", [Table("Steps of the pipeline run", headings, rows)])


def _make_step_row(step: StepRow, with_reason: bool) -> list[Cell]:
    duration = format_seconds(step.seconds)
    if duration and step.state not in (RAN, FAILED, STOPPED):
        duration = f"{duration}{NO_BREAK}(earlier)"
    return make_cells(
        Cell(step.name, CODE),
        Cell(step.state.replace(" ", NO_BREAK), _STATE_KINDS.get(step.state, "")),
        duration,
        *([step.reason] if with_reason else []),
        step.summary or step.error.strip().partition("\n")[0],
    )
