"""summary.json -> the Markdown of a comment: a pure function, and the only place where its texts become markup."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ci.summary import Checks, Confusion, Measure, StepLine, Summary
from stepkit.settings.evaluate import LOWER_IS_BETTER

MARKER = "<!-- ml-pipeline-report -->"
"""Stands in the first line of every comment, unseen, so that the next run finds the one to update."""

MOST_CHARACTERS = 65_536
"""The longest body that GitHub takes."""

NAMES = {"roc_auc": "ROC AUC", "average_precision": "average precision", "log_loss": "log loss", "f1": "F1"}
FIRST = ("roc_auc", "average_precision", "brier_score", "log_loss")
ALIKE = 5e-5
"""A difference below this is none: the table shows four digits."""

_MARKUP = re.compile(r"[\\`*\[\]<>&|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://|(?i:(?<=www)\.)")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True)
class Place:
    """Where the run is, from the event and not from the run: its commit, its page, and whose code it ran."""

    commit: str
    run_url: str
    from_fork: bool = False


def plain(text: str) -> str:
    """Return a text as one line that Markdown takes for nothing else: no markup, link, mention or hidden character."""
    line = " ".join(_UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text).split())
    return _MARKUP.sub(lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line).replace("@", "@&#8203;")


def render(summary: Summary, place: Place) -> str:
    """Return the comment, at most `MOST_CHARACTERS` long; what does not fit gives way to a link."""
    parts = [
        f"{MARKER}\n## {_headline(summary)}",
        _about(summary, place),
        _error(summary),
        _verdict(summary),
        _metrics(summary),
        _confusion(summary.confusion),
        _checks(summary.checks),
        _steps(summary.steps),
        _foot(place),
    ]
    return shortened("\n\n".join(part for part in parts if part) + "\n", place.run_url)


def shortened(body: str, link: str) -> str:
    """Return the body, cut after a whole line where it is too long for GitHub, with a link to the rest."""
    if len(body) <= MOST_CHARACTERS:
        return body
    note = f"\n\n_Cut here: the comment would be longer than GitHub takes. [The whole report]({link})_\n"
    kept = body[: MOST_CHARACTERS - len(note)]
    return kept[: kept.rfind("\n")] + note


def _headline(summary: Summary) -> str:
    if not summary.succeeded:
        return "Pipeline failed"
    if summary.verdict is None:
        return "Pipeline succeeded"
    return f"Pipeline succeeded, gate {'passed' if summary.verdict.passed else 'not passed'}"


def _about(summary: Summary, place: Place) -> str:
    ran = sum(step.state == "ran" for step in summary.steps)
    reused = sum(step.state == "reused" for step in summary.steps)
    model = f" {plain(summary.model)}." if summary.model else ""
    return (
        f"Commit {place.commit[:10]}, data `{summary.data}`: {ran} steps ran, {reused} reused, "
        f"{summary.seconds:.1f} s in all.{model} [Log and report]({place.run_url})"
    )


def _error(summary: Summary) -> str:
    lines = [plain(line) for line in summary.error.splitlines() if line.strip()]
    return "\n".join(["**What went wrong**", "", *(f"> {line}  " for line in lines)]) if lines else ""


def _verdict(summary: Summary) -> str:
    if summary.verdict is None:
        return ""
    mark = "✅ passed" if summary.verdict.passed else "❌ not passed"
    return "\n".join([f"**Gate**: {mark}", "", *(f"- {plain(reason)}" for reason in summary.verdict.reasons)])


def _metrics(summary: Summary) -> str:
    """The table of metrics; beside main's where main has run on the same data set."""
    if not summary.metrics:
        return ""
    names = sorted(summary.metrics, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    base = summary.base if summary.base and summary.base.data == summary.data else None
    if base is None:
        rows = [f"| {_name(name)} | {_interval(summary.metrics[name])} |" for name in names]
        return "\n".join([_why_alone(summary), "", "| test split | this commit |", "| --- | ---: |", *rows])
    rows = [
        f"| {_name(name)} | {_interval(summary.metrics[name])} | {_interval(base.metrics.get(name))} | "
        f"{_difference(name, summary.metrics[name], base.metrics.get(name))} |"
        for name in names
    ]
    head = f"| test split | this commit | main {base.commit[:10]} | difference |"
    return "\n".join([head.replace("  ", " "), "| --- | ---: | ---: | ---: |", *rows])


def _why_alone(summary: Summary) -> str:
    if summary.base is None:
        return "Nothing to compare with: no run of main is in the cache."
    return f"Nothing to compare with: main's last run is on other data (`{summary.base.data}`)."


def _name(name: str) -> str:
    return NAMES.get(name, plain(name.replace("_", " ")))


def _interval(measure: Measure | None) -> str:
    if measure is None:
        return ""
    if measure.low is None or measure.high is None:
        return f"{measure.value:.4f}"
    return f"{measure.value:.4f} ({measure.low:.4f} to {measure.high:.4f})"


def _difference(name: str, ours: Measure, theirs: Measure | None) -> str:
    if theirs is None:
        return "new"
    difference = ours.value - theirs.value
    if abs(difference) < ALIKE:
        return "none"
    better = (difference < 0) == (name in LOWER_IS_BETTER)
    return f"{difference:+.4f} {'better' if better else 'worse'}"


def _confusion(found: Confusion | None) -> str:
    if found is None:
        return ""
    negative, positive = map(plain, found.classes)
    return (
        f"| test split, rows | predicted {negative} | predicted {positive} |\n| --- | ---: | ---: |\n"
        f"| **truly {negative}** | {found.tn:,} | {found.fp:,} |\n"
        f"| **truly {positive}** | {found.fn:,} | {found.tp:,} |"
    )


def _checks(found: Checks | None) -> str:
    if found is None:
        return ""
    said = f" ({plain(found.said)})" if found.said else ""
    return f"**Data checks**: {found.passed} passed, {found.failed} failed, {found.skipped} skipped{said}"


def _steps(steps: list[StepLine]) -> str:
    rows = [f"| {plain(step.name)} | {step.state} | {_seconds(step)} | {plain(_words(step))} |" for step in steps]
    head = ["| step | | seconds | |", "| --- | --- | ---: | --- |"]
    return "\n".join(["<details><summary>Steps</summary>", "", *head, *rows, "", "</details>"])


def _words(step: StepLine) -> str:
    return f"{step.said} (again: {step.why})".strip() if step.why else step.said


def _seconds(step: StepLine) -> str:
    if step.seconds is None:
        return ""
    return f"({step.seconds:.1f} when it ran)" if step.state == "reused" else f"{step.seconds:.1f}"


def _foot(place: Place) -> str:
    return "_Computed by the code of a fork; read it before you rely on the figures._" if place.from_fork else ""
