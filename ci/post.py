"""post: summary.json of a finished run and the event that tells of it -> its comments on commit and pull request.

Everything about whom to tell comes from GitHub's event, nothing from the file, which anyone's code may have written.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from ci.errors import ReportFailed
from ci.github import GitHub
from ci.render import MARKER, Place, render
from ci.summary import MOST_BYTES, Summary
from stepkit.table.columns import first_problem

API = "https://api.github.com"
Kind = TypeVar("Kind", bound=BaseModel)


class Owner(BaseModel):
    login: str


class Repository(BaseModel):
    full_name: str
    owner: Owner


class WorkflowRun(BaseModel):
    """The part of the event `workflow_run` that is used."""

    head_sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    head_branch: str | None
    head_repository: Repository | None
    html_url: str = Field(pattern=r"^https?://[^\s()<>]+$")


class Event(BaseModel):
    workflow_run: WorkflowRun


def read_form(form: type[Kind], file: Path, most: int = 10_000_000) -> Kind:
    """Return what a JSON file holds.

    Raises:
        ReportFailed: no such file, too large, or of another form.
    """
    try:
        if file.stat().st_size > most:
            raise ReportFailed(f"{file.name} has {file.stat().st_size:,} bytes, more than {most:,}: it is not read.")
        return form.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ReportFailed(f"{file.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ReportFailed(f"{file.name} is not what it should be: {first_problem(error)}.") from error


def post(github: GitHub, event: Event, summary: Summary) -> list[str]:
    """Put the comment where it belongs; return a line for each place."""
    run = event.workflow_run
    source = run.head_repository
    from_fork = source is None or source.full_name != github.repository
    body = render(summary, Place(run.head_sha, run.html_url, from_fork))
    lines = []
    if not from_fork:
        lines.append(f"commit: {github.comment_on_commit(run.head_sha, MARKER, body)}")
    if source is None or run.head_branch is None:
        return [*lines, "no pull request: the branch is gone"]
    number = github.open_pull(f"{source.owner.login}:{run.head_branch}", run.head_sha)
    if number is None:
        return [*lines, f"no open pull request of {run.head_branch} ends with {run.head_sha[:10]}"]
    return [*lines, f"pull request {number}: {github.comment_on_pull(number, MARKER, body)}"]


def from_environment() -> tuple[GitHub, Path]:
    """Return the repository to write to and the file of the event, as a workflow sets them.

    Raises:
        ReportFailed: a variable is not set.
    """
    needed = ("GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH")
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        raise ReportFailed(f"{', '.join(missing)} must be set. To see the comment without posting it: make ci-report")
    token, repository, event = (os.environ[name] for name in needed)
    return GitHub(os.environ.get("GITHUB_API_URL") or API, repository, token), Path(event)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json")
    args = parser.parse_args(argv)
    try:
        github, event = from_environment()
        summary = read_form(Summary, args.summary, MOST_BYTES)
        print("\n".join(post(github, read_form(Event, event), summary)))
    except ReportFailed as error:
        print(f"not posted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
