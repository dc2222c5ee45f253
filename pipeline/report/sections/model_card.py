"""The model card: the purpose of the model, its data, its limits, and the groups that it serves less well.

After Mitchell et al.: Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

from pipeline.report.blocks import WARN, Block, Cell, Section, Table, Text, make_cells, make_fact_table
from pipeline.report.format import format_count, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Slice
from pipeline.report.sections.baselines import describe_baselines
from pipeline.report.sections.calibration import describe_calibration, get_calibration
from pipeline.report.sections.credit import list_credit_facts
from pipeline.report.sections.data import NOT_STATED, get_data_settings, get_description, list_unstated
from pipeline.report.sections.evaluation import SLICE_METRICS
from pipeline.report.sections.information_value import describe_highest_values
from pipeline.report.sections.metrics import get_class_names
from pipeline.report.sections.stability import describe_stability
from stepkit.model.metric_table import NOT_COMPUTED, format_metric, get_metric
from stepkit.store.lineage import SUMMARY
from stepkit.words import format_kind, pluralize

NOT_FOR_DECISIONS = (
    "Do not use this model for decisions about people, such as lending, before an accountable expert has reviewed it. "
    "It was trained on one table, and the effect of its mistakes on people has not been studied."
)
FURTHER_LIMITS = (
    "Further limits: the test rows have the same source{period} as the training rows, so results on other data may "
    "be worse. The importance of a column shows what the model uses, not what would change the outcome."
)


def make_card_section(result: PipelineResult) -> Section:
    """Return the model card: purpose, data, quality, fairness and limits."""
    if result.model not in result.runs:
        return Section("card", "Model card", [Text("No model card, because this run did not train a model.")])
    limits = get_data_settings(result).get("limits")
    stated: list[Block] = [Text(f"Limits: {limits}")] if limits else []
    model = make_fact_table("Model", _list_model_facts(result))
    period = "" if get_data_settings(result).get("split") == "time" else " and period"
    limits_of_test = Text(FURTHER_LIMITS.format(period=period))
    blocks = [Text(NOT_FOR_DECISIONS, WARN), model, *_make_fairness_blocks(result), *stated, limits_of_test]
    return Section("card", "Model card", blocks)


def _list_model_facts(result: PipelineResult) -> list[tuple[str, str | Cell]]:
    settings = get_data_settings(result)
    target, (_, positive) = settings.get("target", "the target"), get_class_names(result)
    source = settings.get("source_target")
    source_name = f" ('{source}' in the source)" if source and source != target else ""
    return [
        (
            "purpose",
            f"Estimates the probability that {target}{source_name} is {positive}. A threshold turns it into a class.",
        ),
        ("kind", _describe_kind(result)),
        ("calibration", describe_calibration(get_calibration(result))),
        ("input", "Raw rows of the data set. Missing values and unknown codes are allowed."),
        ("trained on", get_description(result)),
        ("rows", _describe_rows(result)),
        ("licence of the data", str(settings.get("licence") or NOT_STATED)),
        ("missing in the description", list_unstated(result)),
        ("quality", _describe_quality(result)),
        ("baselines", describe_baselines(result)),
        *list_credit_facts(result),
        ("information value", describe_highest_values(result)),
        ("stability", describe_stability(result)),
        ("validation", result.get_tag(result.model, SUMMARY)),
    ]


def _describe_kind(result: PipelineResult) -> str:
    settings = (result.config.get(f"{result.model}_pipeline") or {}).get(result.model) or {}
    forest = settings if result.model == "random_forest" else {}
    if not forest:
        texts = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
        kind = format_kind(result.model)
        return f"{kind}{f' ({texts})' if texts else ''} in a scikit-learn pipeline, run by ONNX Runtime."
    depth = forest.get("max_depth")
    return (
        f"Random forest of {forest.get('n_estimators')} trees, "
        f"{f'depth at most {depth}' if depth else 'any depth'}, "
        f"class weights: {forest.get('class_weight') or 'none'}, in a scikit-learn pipeline, run by ONNX Runtime."
    )


def _describe_rows(result: PipelineResult) -> str:
    run = result.runs.get("segregate")
    root = run.data.params.get("artifact_root", "data") if run else ""
    train, test = (result.get_metric("segregate", f"rows.{root}_{part}") for part in ("train", "test"))
    if not train or not test:
        return ""
    parts = f"{format_count(train)} for training and validation, {format_count(test)} for testing"
    validated, exported = (result.get_metric(result.model, name) for name in ("rows_train", "rows_model"))
    if not validated or not exported:
        return parts
    return (
        f"{parts}; validated after a fit on {format_count(validated)}, exported after a fit on {format_count(exported)}"
    )


def _describe_quality(result: PipelineResult) -> str:
    if result.evaluation is None:
        return "unknown, because this run did not evaluate the model"
    auc = result.evaluation.get_estimate("roc_auc")
    interval = format_interval(auc.low, auc.high)
    return f"test ROC AUC {format_metric(auc.value)}{f' ({interval})' if interval else ', no interval computed'}"


def _make_fairness_blocks(result: PipelineResult) -> list[Block]:
    """Return the lowest and highest group of each column with slices."""
    slices = result.evaluation.slices if result.evaluation else []
    if not slices:
        return [Text("Fairness: unknown, because this run computed no slices of the test split.", WARN)]
    names = [name for name in SLICE_METRICS if any(name in group.metrics for group in slices)]
    large = [group for group in slices if _is_large_enough(group, result)]
    rows = [
        make_cells(
            column, *(_format_spread([group for group in large if group.column == column], name) for name in names)
        )
        for column in sorted({group.column for group in large})
    ]
    headings = ["column", *(get_metric(name).label for name in names)]
    table = Table("Fairness: lowest to highest group", headings, rows)
    hint = "Groups also differ by chance, small groups most. Compare the intervals in the section Slices."
    left_out = len(slices) - len(large)
    small = f" Left out: {pluralize(left_out, 'group')} too small for the gate." if left_out else ""
    return [table, Text(hint + small)]


def _is_large_enough(group: Slice, result: PipelineResult) -> bool:
    """Return True if the gate judges a group of this size (evaluate.slices in the configuration of the run)."""
    limits = (result.config.get("evaluate") or {}).get("slices") or {}
    fewest = min(group.positives, group.rows - group.positives)
    return bool(group.rows >= limits.get("min_rows", 0) and fewest >= limits.get("min_positives", 0))


def _format_spread(groups: list[Slice], name: str) -> str:
    """Return "0.750 (Sex: male) to 0.770 (Sex: female)", and the number of groups without a value."""
    values = [(group.metrics.get(name, Estimate()).value, group.label) for group in groups]
    computed = [(value, label) for value, label in values if value is not None]
    if not computed:
        return NOT_COMPUTED
    (low, lowest), (high, highest) = min(computed), max(computed)
    missing = len(groups) - len(computed)
    more = f"; not computed for {pluralize(missing, 'group')}" if missing else ""
    return f"{format_metric(low, 3)} ({lowest}) to {format_metric(high, 3)} ({highest}){more}"
