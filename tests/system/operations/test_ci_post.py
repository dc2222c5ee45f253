"""Comments on a commit and a pull request, through the command line of GitHub: found, created, updated; faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci import post
from ci.comment import MARKER
from ci.post import main
from ci.summary import MOST_BYTES, as_json, summary_of
from tests.support import fake_gh
from tests.support.fake_gh import REPOSITORY
from tests.support.reports import COMMIT, page

TOKEN = "ghs_never_to_be_seen"
BRANCH = "better-forest"
COMMIT_COMMENTS, PULL_COMMENTS = f"commits/{COMMIT}/comments", "issues/7/comments"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the pull requests and comments of a GitHub behind a `gh` on PATH."""
    file = fake_gh.install(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv(fake_gh.STATE, str(file))
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    monkeypatch.setattr(post, "PAUSES", (0.0, 0.0))
    event(tmp_path, monkeypatch)
    return file


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    file = tmp_path / "summary.json"
    file.write_text(as_json(summary_of(page())), encoding="utf-8")
    return file


def event(folder: Path, monkeypatch: pytest.MonkeyPatch, owner: str = "someone", branch: str | None = BRANCH) -> None:
    """Write the event of a finished run, as GitHub does, and name it in the environment."""
    run: dict[str, Any] = {
        "head_sha": COMMIT,
        "head_branch": branch,
        "head_repository": {"full_name": f"{owner}/credit", "owner": {"login": owner}},
        "html_url": "https://github.com/someone/credit/actions/runs/42",
        "conclusion": "success",
    }
    (folder / "event.json").write_text(json.dumps({"workflow_run": run}), encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(folder / "event.json"))


def pull(number: int, owner: str = "someone", sha: str = COMMIT, state: str = "open") -> dict[str, Any]:
    return {"number": number, "state": state, "label": f"{owner}:{BRANCH}", "head": {"sha": sha}}


def known(state: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    return found


def set_up(state: Path, **changes: Any) -> None:
    with fake_gh.changed(state) as content:
        content.update(changes)


def test_a_run_is_told_on_its_commit_and_on_its_pull_request(
    state: Path, summary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(state, pulls=[pull(6, state="closed"), pull(7)])
    assert main([str(summary)]) == 0
    comments = known(state)["comments"]
    assert {thread: len(kept) for thread, kept in comments.items()} == {COMMIT_COMMENTS: 1, PULL_COMMENTS: 1}
    (on_pull,) = comments[PULL_COMMENTS]
    assert on_pull["body"].startswith(MARKER)
    assert on_pull["html_url"] in capsys.readouterr().out


def test_told_again_the_same_comments_are_updated(state: Path, summary: Path) -> None:
    set_up(state, pulls=[pull(7)])
    main([str(summary)])
    summary.write_text(as_json(summary_of(replace(page(), outcome="Passed now"))), encoding="utf-8")
    set_up(state, asked=[])
    assert main([str(summary)]) == 0
    assert [one for one in known(state)["asked"] if one.startswith("POST")] == []
    for thread in (COMMIT_COMMENTS, PULL_COMMENTS):
        (one,) = known(state)["comments"][thread]
        assert "Passed now" in one["body"]
    set_up(state, asked=[])
    assert main([str(summary)]) == 0
    assert [one for one in known(state)["asked"] if not one.startswith("GET")] == []


def test_a_pull_request_of_a_fork_gets_its_comment_and_a_warning(
    state: Path, summary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(state, pulls=[pull(7, owner="stranger")])
    event(tmp_path, monkeypatch, owner="stranger")
    assert main([str(summary)]) == 0
    (thread,) = known(state)["comments"].items()
    assert thread[0] == PULL_COMMENTS
    assert "Computed by the code of a fork" in thread[1][0]["body"]


def test_a_run_of_an_older_commit_does_not_overwrite_the_pull_requests_comment(
    state: Path, summary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(state, pulls=[pull(7, sha="f" * 40)])
    assert main([str(summary)]) == 0
    assert list(known(state)["comments"]) == [COMMIT_COMMENTS]
    assert f"no open pull request of {BRANCH} ends with {COMMIT[:10]}" in capsys.readouterr().out


def test_a_deleted_branch_is_no_error(
    state: Path, summary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event(tmp_path, monkeypatch, branch=None)
    assert main([str(summary)]) == 0
    assert list(known(state)["comments"]) == [COMMIT_COMMENTS]


def test_the_comment_is_found_behind_a_hundred_others_and_nobody_elses_is_touched(state: Path, summary: Path) -> None:
    with fake_gh.changed(state) as content:
        for number in range(230):
            fake_gh.add(content, COMMIT_COMMENTS, f"remark {number}", author="someone")
        fake_gh.add(content, COMMIT_COMMENTS, f"{MARKER} copied", author="someone")
        fake_gh.add(content, COMMIT_COMMENTS, f"{MARKER} old")
    assert main([str(summary)]) == 0
    bodies = [one["body"] for one in known(state)["comments"][COMMIT_COMMENTS]]
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
def test_what_may_pass_is_tried_again(state: Path, summary: Path, problem: str) -> None:
    set_up(state, problems=[problem, problem])
    assert main([str(summary)]) == 0
    assert known(state)["asked"][:4] == [f"GET {COMMIT_COMMENTS}"] * 3 + [f"POST {COMMIT_COMMENTS}"]


@pytest.mark.parametrize("problem", ["gh: Server Error (HTTP 503)", "gh: API rate limit exceeded (HTTP 403)"])
def test_a_server_that_stays_broken_is_given_up(
    state: Path, summary: Path, capsys: pytest.CaptureFixture[str], problem: str
) -> None:
    set_up(state, problems=[problem] * 9)
    assert main([str(summary)]) == 1
    assert capsys.readouterr().err == f"not posted: GET {COMMIT_COMMENTS}: {problem}. Run the job again later.\n"
    assert len(known(state)["asked"]) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "The token is wrong"),
        (403, "'pull-requests: write'"),
        (404, "GITHUB_REPOSITORY"),
        (410, "turned off"),
        (422, "does not take"),
        (301, "GITHUB_SERVER_URL"),
    ],
)
def test_a_refusal_says_what_to_do(
    state: Path, summary: Path, capsys: pytest.CaptureFixture[str], status: int, words: str
) -> None:
    set_up(state, problems=[f"gh: the server's own words (HTTP {status})"])
    assert main([str(summary)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("not posted: ")
    assert words in said
    assert "the server's own words" in said
    assert len(known(state)["asked"]) == 1


def test_a_missing_gh_is_one_message(
    state: Path, summary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert main([str(summary)]) == 1
    assert capsys.readouterr().err.startswith("not posted: gh is not on PATH.")


@pytest.mark.parametrize(("address", "host"), [("", "github.com"), ("https://git.example.org", "git.example.org")])
def test_the_token_goes_to_the_server_of_the_workflow_and_is_never_said(
    state: Path,
    summary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    host: str,
) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", address)
    set_up(state, problems=["gh: Bad credentials (HTTP 401)"])
    main([str(summary)])
    main([str(summary)])
    assert {tuple(account) for account in known(state)["accounts"]} == {(host, TOKEN)}
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH"])
def test_a_missing_variable_is_named(
    state: Path, summary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.delenv(name)
    assert main([str(summary)]) == 1
    assert f"{name} must be set" in capsys.readouterr().err
    assert known(state)["asked"] == []


@pytest.mark.parametrize("content", [None, "no JSON", "{}", json.dumps({"form": 1}), " " * (MOST_BYTES + 1)])
def test_a_file_that_is_no_summary_is_refused_before_anything_is_asked(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    file = tmp_path / "summary.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert main([str(file)]) == 1
    assert "not posted: summary.json" in capsys.readouterr().err
    assert known(state)["asked"] == []
