"""Comment on a pipeline run: its place, from GitHub's event, and its report, from the renderer of the report."""

from __future__ import annotations

from dataclasses import dataclass

from ci.summary import Summary
from pipeline.report.render import render_markdown

MARKER = "<!-- ml-pipeline-report -->"
"""Invisible first line of each comment, by which the next run finds the comment to update."""

FROM_FORK = "_Computed by the code of a fork. Review that code before you rely on the figures._"


@dataclass(frozen=True)
class Place:
    """Commit and page of a workflow run. They come from GitHub's event, because the run itself is not trusted."""

    commit: str
    run_url: str
    from_fork: bool = False


def render_comment(summary: Summary, place: Place) -> str:
    """Return the comment. Its trusted part comes first, where no text of the run can hide it."""
    about = f"Commit {place.commit[:10]}. [Log and report]({place.run_url})"
    return "\n\n".join([MARKER, f"{about} {FROM_FORK}" if place.from_fork else about, render_markdown(summary.page)])
