"""The model card: what the model is for, what it was made from, where it ends, and whom it serves less well.

After Mitchell et al.: Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from pipeline.report.blocks import WARN, Block, Cell, Section, Table, Text, cells, facts
from pipeline.report.format import count, interval, metric_name, number, plural
from pipeline.report.gather import Found
from pipeline.report.schemas import Slice
from pipeline.report.sections.data import NOT_STATED, data_settings, description_of, unstated
from pipeline.report.sections.evaluation import IN_SLICES
from stepkit.store.lineage import SUMMARY

NOT_FOR_DECISIONS = (
    "Not for decisions about a person, on credit or anything else, before somebody who answers for them has reviewed "
    "it: it was trained on one table, and nobody has looked at what its mistakes would do to whom."
)


def card_section(found: Found) -> Section:
    if "random_forest" not in found.runs:
        return Section("card", "Model card", [Text("There is no model card: no model was trained in this run.")])
    blocks: list[Block] = [
        Text(NOT_FOR_DECISIONS, WARN),
        facts("Model", _model_facts(found)),
        *_fairness(found),
        *[Text(text) for text in limits_of(found)],
    ]
    return Section("card", "Model card", blocks)


def _model_facts(found: Found) -> list[tuple[str, str | Cell]]:
    settings = data_settings(found)
    target, positive = settings.get("target", "the target"), settings.get("positive", 1)
    source = settings.get("source_target")
    called = f" ('{source}' in the source)" if source and source != target else ""
    return [
        ("purpose", f"Estimates the probability that {target}{called} is {positive}, and the class at its threshold."),
        ("kind", _kind(found)),
        ("input", "Raw rows of the data set; missing values and codes that it has never seen are legal."),
        ("trained on", description_of(found)),
        ("rows", _rows(found)),
        ("licence of the data", str(settings.get("licence") or NOT_STATED)),
        ("to fill in", unstated(found)),
        ("how good", _how_good(found)),
        ("validation", found.tag("random_forest", SUMMARY)),
    ]


def _kind(found: Found) -> str:
    model = found.config.get("random_forest_pipeline")
    forest = model.get("random_forest") if isinstance(model, dict) else None
    if not isinstance(forest, dict):
        return "Random forest within a scikit-learn pipeline, answered by ONNX."
    depth = forest.get("max_depth")
    return (
        f"Random forest of {forest.get('n_estimators')} trees, "
        f"{f'at most {depth} deep' if depth else 'of any depth'}, "
        f"class weights: {forest.get('class_weight') or 'none'}; within a scikit-learn pipeline, answered by ONNX."
    )


def _rows(found: Found) -> str:
    train, test = (found.metric("segregate", f"rows.{_root(found)}_{part}") for part in ("train", "test"))
    return f"{count(train)} to train and validate, {count(test)} to test" if train and test else ""


def _root(found: Found) -> str:
    run = found.step_run("segregate")
    return str(run.data.params.get("artifact_root", "data")) if run else "data"


def _how_good(found: Found) -> str:
    auc = found.evaluation.metrics.get("roc_auc") if found.evaluation else None
    if auc is None:
        return "not known: it was not evaluated in this run"
    span = interval(auc.low, auc.high)
    return f"test ROC AUC {number(auc.value)}{f' ({span})' if span else ', no interval computed'}"


def _fairness(found: Found) -> list[Block]:
    """For each column that the model was looked at by, how far its groups lie apart."""
    slices = found.evaluation.slices if found.evaluation else []
    if not slices:
        return [Text("No figures of fairness: this run has not looked at groups (slices) of the test split.", WARN)]
    names = [name for name in IN_SLICES if any(name in one.metrics for one in slices)]
    large = [one for one in slices if is_large(one, found)]
    by_column = groupby(sorted(large, key=lambda one: one.column), key=lambda one: one.column)
    rows = [cells(column, *(_spread([*group], name) for name in names)) for column, group in
            ((column, [*group]) for column, group in by_column)]  # fmt: skip
    table = Table("Fairness: lowest to highest group", ["column", *map(metric_name, names)], rows)
    hint = "Groups differ by chance too, small ones most: see the intervals under Slices before reading a gap into it."
    left_out = len(slices) - len(large)
    small = f" Not among them: {plural(left_out, 'group')} too small to be judged." if left_out else ""
    return [table, Text(hint + small)]


def is_large(one: Slice, found: Found) -> bool:
    """Whether a group is large enough for the gate to judge (evaluate.slices of the run's configuration)."""
    wanted = (found.config.get("evaluate") or {}).get("slices") or {}
    rows, positives = one.rows or 0, one.positives or 0
    return bool(
        rows >= wanted.get("min_rows", 0) and min(positives, rows - positives) >= wanted.get("min_positives", 0)
    )


def _spread(group: list[Slice], name: str) -> str:
    """ "0.7500 (Sex: male) to 0.7700 (Sex: female)"; groups in which it cannot be computed are counted."""
    known = [(one.metrics[name].value, one.name) for one in group if _is_known(one, name)]
    missing = len(group) - len(known)
    more = f"; not computed in {missing}" if missing else ""
    if not known:
        return f"not computed{more}" if len(group) > 1 else "not computed"
    (low, lowest), (high, highest) = min(known, key=_first), max(known, key=_first)
    return f"{number(low, 3)} ({lowest}) to {number(high, 3)} ({highest}){more}"


def _is_known(one: Slice, name: str) -> bool:
    value = one.metrics[name].value if name in one.metrics else None
    return value is not None and math.isfinite(value)


def _first(pair: tuple[Any, str]) -> Any:
    return pair[0]


def limits_of(found: Found) -> list[str]:
    """Where the model ends: what the data set says of itself, and what follows from how it was made."""
    settings = data_settings(found)
    limits = [f"Limits: {settings['limits']}"] if settings.get("limits") else []
    limits.append(
        "Further limits: it was tested on rows of the same source and time as those that it was trained on, and may do "
        "worse on others; the importance of a column says what the model uses, and not what would change the outcome."
    )
    return limits
