"""Comments on a commit and a pull request, through the command line of GitHub: found, created, updated; faults."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ci import post
from ci.comment import MARKER
from ci.summary import MOST_BYTES, make_summary, to_json
from tests.support import fake_gh
from tests.support.reports import COMMIT, make_page

TOKEN = "ghs_never_to_be_seen"
BRANCH = "better-forest"
COMMIT_COMMENTS, PULL_COMMENTS = f"commits/{COMMIT}/comments", "issues/7/comments"


@dataclass
class Job:
    """Job that comments, with its files, variables, a `gh` on PATH, and a fake GitHub."""

    folder: Path
    state: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def post(self) -> tuple[int, str]:
        """Return the exit status and the output."""
        status = post.main([str(self.folder / "summary.json")])
        output = self.capsys.readouterr()
        return status, output.out + output.err

    def write_event(self, owner: str = "someone", branch: str | None = BRANCH) -> None:
        """Write the event of a finished run, as GitHub does, and name it in the environment."""
        run = {
            "head_sha": COMMIT,
            "head_branch": branch,
            "head_repository": {"full_name": f"{owner}/credit", "owner": {"login": owner}},
            "html_url": "https://github.com/someone/credit/actions/runs/42",
        }
        (self.folder / "event.json").write_text(json.dumps({"workflow_run": run}), encoding="utf-8")
        self.monkeypatch.setenv("GITHUB_EVENT_PATH", str(self.folder / "event.json"))

    def change(self, **changes: Any) -> None:
        with fake_gh.change_state(self.state) as content:
            content.update(changes)

    def read(self, key: str) -> Any:
        return json.loads(self.state.read_text(encoding="utf-8"))[key]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Job:
    state = fake_gh.install(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_REPOSITORY", fake_gh.REPOSITORY)
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    monkeypatch.setenv(fake_gh.STATE, str(state))
    monkeypatch.setattr(post, "PAUSES", (0.0, 0.0))
    (tmp_path / "summary.json").write_text(to_json(make_summary(make_page())), encoding="utf-8")
    job = Job(tmp_path, state, monkeypatch, capsys)
    job.write_event()
    return job


def make_pull(number: int, owner: str = "someone", sha: str = COMMIT, state: str = "open") -> dict[str, Any]:
    return {"number": number, "state": state, "label": f"{owner}:{BRANCH}", "head": {"sha": sha}}


def test_a_run_is_told_on_its_commit_and_on_its_pull_request(job: Job) -> None:
    job.change(pulls=[make_pull(6, state="closed"), make_pull(7)])
    status, output = job.post()
    comments = job.read("comments")
    assert status == 0
    assert {thread: len(items) for thread, items in comments.items()} == {COMMIT_COMMENTS: 1, PULL_COMMENTS: 1}
    (on_pull,) = comments[PULL_COMMENTS]
    assert on_pull["body"].startswith(MARKER)
    assert on_pull["html_url"] in output


def test_told_again_the_same_comments_are_updated(job: Job) -> None:
    job.change(pulls=[make_pull(7)])
    job.post()
    later = make_summary(replace(make_page(), outcome="Passed now"))
    (job.folder / "summary.json").write_text(to_json(later), encoding="utf-8")
    for methods in ({"GET", "PATCH"}, {"GET"}):
        job.change(asked=[])
        assert job.post()[0] == 0
        assert {request.split()[0] for request in job.read("asked")} == methods
    for thread_comments in job.read("comments").values():
        (comment,) = thread_comments
        assert "Passed now" in comment["body"]


def test_a_pull_request_of_a_fork_gets_its_comment_and_a_warning(job: Job) -> None:
    job.change(pulls=[make_pull(7, owner="stranger")])
    job.write_event(owner="stranger")
    assert job.post()[0] == 0
    ((thread, (comment,)),) = job.read("comments").items()
    assert thread == PULL_COMMENTS
    assert "Computed by the code of a fork" in comment["body"]


def test_a_run_of_an_older_commit_does_not_overwrite_the_pull_requests_comment(job: Job) -> None:
    job.change(pulls=[make_pull(7, sha="f" * 40)])
    status, output = job.post()
    assert status == 0
    assert list(job.read("comments")) == [COMMIT_COMMENTS]
    assert f"no open one from {BRANCH} ends with {COMMIT[:10]}" in output


def test_a_deleted_branch_is_no_error(job: Job) -> None:
    job.write_event(branch=None)
    assert job.post()[0] == 0
    assert list(job.read("comments")) == [COMMIT_COMMENTS]


def test_the_comment_is_found_behind_a_hundred_others_and_nobody_elses_is_touched(job: Job) -> None:
    with fake_gh.change_state(job.state) as content:
        for number in range(230):
            fake_gh.add_comment(content, COMMIT_COMMENTS, f"remark {number}", author="someone")
        fake_gh.add_comment(content, COMMIT_COMMENTS, f"{MARKER} copied", author="someone")
        fake_gh.add_comment(content, COMMIT_COMMENTS, f"{MARKER} old")
    assert job.post()[0] == 0
    bodies = [comment["body"] for comment in job.read("comments")[COMMIT_COMMENTS]]
    assert len(bodies) == 232
    assert bodies[-2] == f"{MARKER} copied"
    assert "Failed at check_data" in bodies[-1]


@pytest.mark.parametrize(
    "problem",
    [
        "gh: Server Error (HTTP 502)",
        "gh: HTTP 500",
        "gh: API rate limit exceeded for installation. (HTTP 403)",
        "gh: You have exceeded a secondary rate limit. (HTTP 403)",
        "error connecting to api.github.com",
    ],
)
def test_what_may_pass_is_tried_again(job: Job, problem: str) -> None:
    job.change(problems=[problem, problem])
    assert job.post()[0] == 0
    assert job.read("asked")[:4] == [f"GET {COMMIT_COMMENTS}"] * 3 + [f"POST {COMMIT_COMMENTS}"]


@pytest.mark.parametrize("problem", ["gh: Server Error (HTTP 503)", "gh: API rate limit exceeded (HTTP 403)"])
def test_a_server_that_stays_broken_is_given_up(job: Job, problem: str) -> None:
    job.change(problems=[problem] * 9)
    assert job.post() == (1, f"not posted: GET {COMMIT_COMMENTS}: {problem}. Rerun the job later.\n")
    assert len(job.read("asked")) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "GITHUB_TOKEN: wrong or expired"),
        (403, "'pull-requests: write'"),
        (404, "GITHUB_REPOSITORY"),
        (410, "disabled"),
        (422, "rejected the request"),
        (301, "GITHUB_SERVER_URL"),
    ],
)
def test_a_refusal_says_what_to_do(job: Job, status: int, words: str) -> None:
    job.change(problems=[f"gh: the server's own words (HTTP {status})"])
    status_code, output = job.post()
    assert (status_code, len(job.read("asked"))) == (1, 1)
    assert output.startswith("not posted: ")
    assert words in output
    assert "the server's own words" in output


def test_a_missing_gh_is_one_message(job: Job) -> None:
    job.monkeypatch.setenv("PATH", str(job.folder / "nothing"))
    status, output = job.post()
    assert status == 1
    assert output.startswith("not posted: gh: not on PATH.")


@pytest.mark.parametrize(("url", "host"), [("", "github.com"), ("https://git.example.org", "git.example.org")])
def test_the_token_goes_to_the_server_of_the_workflow_and_is_never_said(job: Job, url: str, host: str) -> None:
    job.monkeypatch.setenv("GITHUB_SERVER_URL", url)
    job.change(problems=["gh: Bad credentials (HTTP 401)"])
    output = job.post()[1] + job.post()[1]
    assert {tuple(account) for account in job.read("accounts")} == {(host, TOKEN)}
    assert TOKEN not in output


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH"])
def test_a_missing_variable_is_named(job: Job, name: str) -> None:
    job.monkeypatch.delenv(name)
    status, output = job.post()
    assert (status, job.read("asked")) == (1, [])
    assert f"{name}: not set" in output


@pytest.mark.parametrize("content", [None, "no JSON", "{}", json.dumps({"form": 1}), " " * (MOST_BYTES + 1)])
def test_a_file_that_is_no_summary_is_refused_before_anything_is_asked(job: Job, content: str | None) -> None:
    file = job.folder / "summary.json"
    file.unlink() if content is None else file.write_text(content, encoding="utf-8")
    status, output = job.post()
    assert (status, job.read("asked")) == (1, [])
    assert "not posted: summary.json" in output
