"""Section on the calibration: the error of the probabilities, the part of it that chance explains, and its plot."""

from __future__ import annotations

from pipeline.report.blocks import QUIET, Section, Text, list_figures
from pipeline.report.format import format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Calibration, Evaluation
from stepkit.model.metric_table import format_metric
from stepkit.settings.model import CALIBRATION, NOT_CALIBRATED
from stepkit.words import pluralize

TITLE = "Calibration"
METHODS = {"sigmoid": "sigmoid (Platt's method)", "isotonic": "isotonic regression"}
DEFINITION = (
    "The error is the mean distance between predicted probability and observed share of positives in ten bins of "
    "equally many rows. Chance alone explains a part of it, because a bin has few rows. The gate judges the excess "
    "by its interval, on all test rows. Slices are not judged."
)


def get_calibration(result: PipelineResult) -> str:
    """Return the model's calibration from its run: sigmoid, isotonic or none; "" if the run has no such tag."""
    tags = (run.data.tags.get(CALIBRATION, "") for run in result.runs.values() if run)
    return next(filter(None, tags), "")


def describe_calibration(calibration: str) -> str:
    """Return the name of a calibration in words."""
    if calibration in ("", NOT_CALIBRATED):
        return "none: the score ranks clients, but is not a probability"
    return METHODS.get(calibration, calibration)


def describe_error(calibration: Calibration) -> str:
    """Return error, expected error and excess, in words."""
    rows = f" on {pluralize(calibration.rows, 'row')}" if calibration.rows else ""
    excess = calibration.excess
    interval = format_interval(excess.low, excess.high)
    return (
        f"expected calibration error {format_metric(calibration.error)}{rows}; chance explains "
        f"{format_metric(calibration.expected)}; excess {format_metric(excess.value)}"
        f"{f' ({interval})' if interval else ''}"
    )


def make_calibration_section(result: PipelineResult) -> Section:
    """Return calibration, error and plots. The section is empty if the run has none of them."""
    evaluation = result.evaluation or Evaluation(metrics={})
    brier = format_metric(evaluation.get_estimate("brier_score").value)
    figures = list_figures(
        result.pictures,
        ("calibration.png", "Calibration", f"Calibration by bin of the predicted probability: Brier score {brier}"),
        ("score_distribution.png", "Distribution of the predicted probabilities", "Probabilities by true class"),
    )
    if evaluation.calibration is None:
        return Section("calibration", TITLE, [*figures])
    method = describe_calibration(get_calibration(result))
    finding = Text(f"Calibration: {method}. On the test split: {describe_error(evaluation.calibration)}.")
    return Section("calibration", TITLE, [finding, Text(DEFINITION, QUIET), *figures])
