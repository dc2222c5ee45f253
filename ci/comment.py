"""The comment on a pipeline's run: where it ran, as GitHub's event says, and the report by the report's renderer."""

from __future__ import annotations

from dataclasses import dataclass

from ci.summary import Summary
from pipeline.report.render import render_markdown

MARKER = "<!-- ml-pipeline-report -->"
"""The first line of every comment, unseen, so that the next run finds the one to update."""

FROM_FORK = "_Computed by the code of a fork; read it before you rely on the figures._"


@dataclass(frozen=True)
class Place:
    """Where the run is, from the event and not from the run: its commit, its page, and whose code it ran."""

    commit: str
    run_url: str
    from_fork: bool = False


def render_comment(summary: Summary, place: Place) -> str:
    """Return the comment; all that the run itself does not choose comes first, where no text of the run can hide it."""
    about = f"Commit {place.commit[:10]}. [Log and report]({place.run_url})"
    return "\n\n".join([MARKER, f"{about} {FROM_FORK}" if place.from_fork else about, render_markdown(summary.page)])
