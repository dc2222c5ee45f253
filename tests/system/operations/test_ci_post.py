"""Comments on a commit and a pull request, through real HTTP: found, created, updated; faults are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ci import github as api
from ci.errors import ReportFailed
from ci.github import GitHub, seconds_to_wait
from ci.post import main
from ci.render import MARKER, Place, render
from tests.support.ci_summaries import COMMIT, full
from tests.support.fake_github import REPOSITORY, Answer, StandIn

TOKEN = "ghs_never_to_be_seen"
BRANCH = "better-forest"
COMMIT_COMMENTS, PULL_COMMENTS = f"commits/{COMMIT}/comments", "issues/7/comments"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    with StandIn(TOKEN) as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        yield server


@pytest.fixture
def client(stand_in: StandIn) -> GitHub:
    return GitHub(stand_in.url, REPOSITORY, TOKEN, pause=0.01)


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    file = tmp_path / "summary.json"
    file.write_text(full().model_dump_json(), encoding="utf-8")
    return file


def event(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str = "someone",
    sha: str = COMMIT,
    branch: str | None = BRANCH,
) -> None:
    """Write the event of a finished run, as GitHub does, and name it in the environment."""
    run: dict[str, Any] = {
        "head_sha": sha,
        "head_branch": branch,
        "head_repository": {"full_name": f"{owner}/credit", "owner": {"login": owner}},
        "html_url": "https://github.com/someone/credit/actions/runs/42",
        "conclusion": "success",
    }
    (folder / "event.json").write_text(json.dumps({"workflow_run": run}), encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(folder / "event.json"))


def pull(number: int, owner: str = "someone", sha: str = COMMIT, state: str = "open") -> dict[str, Any]:
    return {"number": number, "state": state, "label": f"{owner}:{BRANCH}", "head": {"sha": sha}}


def test_a_run_is_told_on_its_commit_and_on_its_pull_request(
    stand_in: StandIn,
    summary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in.pulls = [pull(6, state="closed"), pull(7)]
    event(tmp_path, monkeypatch)
    assert main([str(summary)]) == 0
    assert {place: len(kept) for place, kept in stand_in.comments.items()} == {COMMIT_COMMENTS: 1, PULL_COMMENTS: 1}
    (on_pull,) = stand_in.comments[PULL_COMMENTS]
    assert on_pull["body"].startswith(MARKER)
    assert on_pull["html_url"] in capsys.readouterr().out


def test_told_again_the_same_comments_are_updated(
    stand_in: StandIn, summary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.pulls = [pull(7)]
    event(tmp_path, monkeypatch)
    main([str(summary)])
    summary.write_text(full(seconds=77.7).model_dump_json(), encoding="utf-8")
    stand_in.asked.clear()
    assert main([str(summary)]) == 0
    assert [one for one in stand_in.asked if one.startswith("POST")] == []
    for place in (COMMIT_COMMENTS, PULL_COMMENTS):
        (one,) = stand_in.comments[place]
        assert "77.7 s in all" in one["body"]
    stand_in.asked.clear()
    assert main([str(summary)]) == 0
    assert [one for one in stand_in.asked if not one.startswith("GET")] == []


def test_a_pull_request_of_a_fork_gets_its_comment_and_a_warning(
    stand_in: StandIn, summary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.pulls = [pull(7, owner="stranger")]
    event(tmp_path, monkeypatch, owner="stranger")
    assert main([str(summary)]) == 0
    assert list(stand_in.comments) == [PULL_COMMENTS]
    assert "Computed by the code of a fork" in stand_in.comments[PULL_COMMENTS][0]["body"]


def test_a_run_of_an_older_commit_does_not_overwrite_the_pull_requests_comment(
    stand_in: StandIn,
    summary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in.pulls = [pull(7, sha="f" * 40)]
    event(tmp_path, monkeypatch)
    assert main([str(summary)]) == 0
    assert list(stand_in.comments) == [COMMIT_COMMENTS]
    assert f"no open pull request of {BRANCH} ends with {COMMIT[:10]}" in capsys.readouterr().out


def test_a_deleted_branch_is_no_error(
    stand_in: StandIn, summary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event(tmp_path, monkeypatch, branch=None)
    assert main([str(summary)]) == 0
    assert list(stand_in.comments) == [COMMIT_COMMENTS]


def test_the_comment_is_found_behind_a_hundred_others_and_nobody_elses_is_touched(
    stand_in: StandIn, client: GitHub
) -> None:
    for number in range(230):
        stand_in.add(PULL_COMMENTS, f"remark {number}", author="someone")
    stand_in.add(PULL_COMMENTS, f"{MARKER} copied", author="someone")
    own = stand_in.add(PULL_COMMENTS, f"{MARKER} old")
    assert client.comment_on_pull(7, MARKER, f"{MARKER} new") == own["html_url"]
    assert stand_in.asked.count(f"GET {PULL_COMMENTS}") == 3
    bodies = [one["body"] for one in stand_in.comments[PULL_COMMENTS]]
    assert bodies[-2:] == [f"{MARKER} copied", f"{MARKER} new"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(502),
        Answer(500),
        Answer(429, headers={"Retry-After": "0"}),
        Answer(403, "You have exceeded a secondary rate limit", {"Retry-After": "0"}),
        Answer(403, "API rate limit exceeded", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}),
    ],
    ids=lambda answer: f"{answer.status} {answer.message}".strip(),
)
def test_what_may_pass_is_tried_again(stand_in: StandIn, client: GitHub, answer: Answer) -> None:
    stand_in.next_answers = [answer, answer]
    assert client.comment_on_commit(COMMIT, MARKER, f"{MARKER} x")
    assert stand_in.asked == [f"GET {COMMIT_COMMENTS}"] * 3 + [f"POST {COMMIT_COMMENTS}"]


def test_a_server_that_stays_broken_is_given_up(stand_in: StandIn, client: GitHub) -> None:
    stand_in.next_answers = [Answer(503, "Service Unavailable")] * api.TRIES
    with pytest.raises(ReportFailed, match=f"failed on each of {api.TRIES} tries; the last: 503 Service Unavailable"):
        client.comment_on_commit(COMMIT, MARKER, MARKER)
    assert len(stand_in.asked) == api.TRIES


def test_a_long_rate_limit_is_told_instead_of_waited_for(stand_in: StandIn, client: GitHub) -> None:
    stand_in.next_answers = [Answer(429, headers={"Retry-After": "3600"})]
    with pytest.raises(ReportFailed, match="rate limit for 3600 s more"):
        client.comment_on_commit(COMMIT, MARKER, MARKER)
    assert len(stand_in.asked) == 1


def test_retry_after_is_waited_for(client: GitHub, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("ci.github.time.sleep", waited.append)
    stand_in.next_answers = [Answer(429, headers={"Retry-After": "17"}), Answer(500)]
    client.comment_on_commit(COMMIT, MARKER, MARKER)
    assert waited == [17.0, 0.02]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "The token is wrong"),
        (403, "'pull-requests: write'"),
        (404, "GITHUB_REPOSITORY"),
        (410, "turned off"),
        (422, "does not take"),
        (301, "GITHUB_API_URL"),
    ],
)
def test_a_refusal_says_what_to_do(
    stand_in: StandIn,
    summary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    words: str,
) -> None:
    event(tmp_path, monkeypatch)
    stand_in.next_answers = [Answer(status, "the server's own words")]
    assert main([str(summary)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("not posted: ")
    assert words in said
    assert f"{status} the server's own words" in said
    assert len(stand_in.asked) == 1


def test_no_answer_at_all_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(TOKEN) as gone:
        address = gone.url
    with pytest.raises(ReportFailed, match=r"no answer \(ConnectionError\)"):
        GitHub(address, REPOSITORY, TOKEN, pause=0.0).comment_on_commit(COMMIT, MARKER, MARKER)


def test_the_token_is_sent_and_never_said(
    stand_in: StandIn,
    summary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    event(tmp_path, monkeypatch)
    stand_in.next_answers = [Answer(401, "Bad credentials")]
    main([str(summary)])
    main([str(summary)])
    assert set(stand_in.authorization) == {f"Bearer {TOKEN}"}
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    assert TOKEN not in repr(GitHub(stand_in.url, REPOSITORY, TOKEN))


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH"])
def test_a_missing_variable_is_named(
    stand_in: StandIn,
    summary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    event(tmp_path, monkeypatch)
    monkeypatch.delenv(name)
    assert main([str(summary)]) == 1
    assert f"{name} must be set" in capsys.readouterr().err
    assert stand_in.asked == []


@pytest.mark.parametrize("content", [None, "no JSON", "{}", json.dumps({"form": 1}), " " * 200_001])
def test_a_file_that_is_no_summary_is_refused_before_anything_is_asked(
    stand_in: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
) -> None:
    event(tmp_path, monkeypatch)
    file = tmp_path / "summary.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert main([str(file)]) == 1
    assert "not posted: summary.json" in capsys.readouterr().err
    assert stand_in.asked == []


def test_the_body_of_the_longest_summary_is_taken(client: GitHub, stand_in: StandIn) -> None:
    steps = [{"name": f"step{number}", "state": "ran", "said": "<" * 600} for number in range(40)]
    client.comment_on_pull(7, MARKER, render(full(steps=steps), Place(COMMIT, "https://github.com")))
    assert len(stand_in.comments[PULL_COMMENTS][0]["body"]) > 60_000


def test_a_plain_refusal_is_no_rate_limit() -> None:
    answer = requests.Response()
    answer.status_code = 403
    assert seconds_to_wait(answer) is None
