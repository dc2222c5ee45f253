"""The model card: the purpose of the model, its data, its limits, and the groups that it serves less well.

After Mitchell et al.: Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

from pipeline.report.blocks import WARN, Block, Cell, Section, Table, Text, make_cells, make_fact_table
from pipeline.report.format import format_count, format_interval, pluralize
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Slice
from pipeline.report.sections.data import NOT_STATED, get_data_settings, get_description, list_unstated
from pipeline.report.sections.evaluation import SLICE_METRICS
from stepkit.model.metric_table import NOT_COMPUTED, format_metric, get_metric
from stepkit.store.lineage import SUMMARY

NOT_FOR_DECISIONS = (
    "Not for decisions about a person, on credit or anything else, before somebody who answers for them has reviewed "
    "it: it was trained on one table, and nobody has looked at what its mistakes would do to whom."
)
FURTHER_LIMITS = (
    "Further limits: it was tested on rows of the same source and time as those that it was trained on, and may do "
    "worse on others; the importance of a column says what the model uses, and not what would change the outcome."
)


def make_card_section(result: PipelineResult) -> Section:
    if "random_forest" not in result.runs:
        return Section("card", "Model card", [Text("There is no model card: no model was trained in this run.")])
    limits = get_data_settings(result).get("limits")
    stated: list[Block] = [Text(f"Limits: {limits}")] if limits else []
    model = make_fact_table("Model", _list_model_facts(result))
    blocks = [Text(NOT_FOR_DECISIONS, WARN), model, *_make_fairness_blocks(result), *stated, Text(FURTHER_LIMITS)]
    return Section("card", "Model card", blocks)


def _list_model_facts(result: PipelineResult) -> list[tuple[str, str | Cell]]:
    settings = get_data_settings(result)
    target, positive = settings.get("target", "the target"), settings.get("positive", 1)
    source = settings.get("source_target")
    called = f" ('{source}' in the source)" if source and source != target else ""
    return [
        ("purpose", f"Estimates the probability that {target}{called} is {positive}, and the class at its threshold."),
        ("kind", _describe_kind(result)),
        ("input", "Raw rows of the data set; missing values and codes that it has never seen are legal."),
        ("trained on", get_description(result)),
        ("rows", _describe_rows(result)),
        ("licence of the data", str(settings.get("licence") or NOT_STATED)),
        ("to fill in", list_unstated(result)),
        ("how good", _describe_quality(result)),
        ("validation", result.get_tag("random_forest", SUMMARY)),
    ]


def _describe_kind(result: PipelineResult) -> str:
    forest = (result.config.get("random_forest_pipeline") or {}).get("random_forest")
    if not forest:
        return "Random forest within a scikit-learn pipeline, answered by ONNX."
    depth = forest.get("max_depth")
    return (
        f"Random forest of {forest.get('n_estimators')} trees, "
        f"{f'at most {depth} deep' if depth else 'of any depth'}, "
        f"class weights: {forest.get('class_weight') or 'none'}; within a scikit-learn pipeline, answered by ONNX."
    )


def _describe_rows(result: PipelineResult) -> str:
    run = result.runs.get("segregate")
    root = run.data.params.get("artifact_root", "data") if run else ""
    train, test = (result.get_metric("segregate", f"rows.{root}_{part}") for part in ("train", "test"))
    return f"{format_count(train)} to train and validate, {format_count(test)} to test" if train and test else ""


def _describe_quality(result: PipelineResult) -> str:
    if result.evaluation is None:
        return "not known: it was not evaluated in this run"
    auc = result.evaluation.get_estimate("roc_auc")
    span = format_interval(auc.low, auc.high)
    return f"test ROC AUC {format_metric(auc.value)}{f' ({span})' if span else ', no interval computed'}"


def _make_fairness_blocks(result: PipelineResult) -> list[Block]:
    """For each column with slices, how far its groups are apart."""
    slices = result.evaluation.slices if result.evaluation else []
    if not slices:
        return [Text("No figures of fairness: this run has not looked at groups (slices) of the test split.", WARN)]
    names = [name for name in SLICE_METRICS if any(name in one.metrics for one in slices)]
    large = [one for one in slices if is_large_enough(one, result)]
    rows = [
        make_cells(column, *(_format_spread([one for one in large if one.column == column], name) for name in names))
        for column in sorted({one.column for one in large})
    ]
    headings = ["column", *(get_metric(name).label for name in names)]
    table = Table("Fairness: lowest to highest group", headings, rows)
    hint = "Groups differ by chance too, small ones most: see the intervals under Slices before reading a gap into it."
    left_out = len(slices) - len(large)
    small = f" Not among them: {pluralize(left_out, 'group')} too small to be judged." if left_out else ""
    return [table, Text(hint + small)]


def is_large_enough(one: Slice, result: PipelineResult) -> bool:
    """Whether a group is large enough for the gate to judge (evaluate.slices of the run's configuration)."""
    wanted = (result.config.get("evaluate") or {}).get("slices") or {}
    fewest = min(one.positives, one.rows - one.positives)
    return bool(one.rows >= wanted.get("min_rows", 0) and fewest >= wanted.get("min_positives", 0))


def _format_spread(group: list[Slice], name: str) -> str:
    """ "0.7500 (Sex: male) to 0.7700 (Sex: female)"; groups in which it cannot be computed are counted."""
    values = [(one.metrics.get(name, Estimate()).value, one.label) for one in group]
    known = [(value, label) for value, label in values if value is not None]
    if not known:
        return NOT_COMPUTED
    (low, lowest), (high, highest) = min(known), max(known)
    missing = len(group) - len(known)
    more = f"; not computed in {missing}" if missing else ""
    return f"{format_metric(low, 3)} ({lowest}) to {format_metric(high, 3)} ({highest}){more}"
