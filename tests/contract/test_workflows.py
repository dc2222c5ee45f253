"""GitHub Actions workflows: pinned, with minimal permissions, without secrets for forks, and only make commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stepkit.paths import ROOT
from tests.support.repo import read_yaml

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PINNED = re.compile(r"uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$")
WRITES = {
    "report.yml": {"contents", "pull-requests"},
    "release.yml": {"packages", "id-token", "attestations"},
}
"""What a job may write, by workflow; the others write nothing."""

RUNS_ANYONES_CODE = ("ci.yml", "ml-pipeline.yml")


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read_jobs(path: Path) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = read_yaml(path)["jobs"]
    return jobs


def list_make_targets(step: dict[str, Any]) -> list[str]:
    """Return the targets that a step passes to make: verbs, and files such as .venv/run.stamp."""
    lines = [line.partition("#")[0] for line in step.get("run", "").splitlines() if line.startswith("make ")]
    return [word for line in lines for word in line.split()[1:] if "=" not in word]


def list_stamps(target: str) -> set[str]:
    """Return the environments that a target of the Makefile installs if they are missing."""
    needed = re.search(rf"^{re.escape(target)}:([^#\n]*)", MAKEFILE, re.MULTILINE)
    return {word for word in [target, *(needed[1].split() if needed else [])] if word.endswith("stamp")}


def read_events(path: Path) -> dict[str, Any]:
    triggers: dict[str, Any] = read_yaml(path)[True]  # YAML 1.1 reads the key `on` as true
    return triggers


def test_the_workflows_are_these() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "drift.yml", "ml-pipeline.yml", "release.yml", "report.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    lines = [line.strip().removeprefix("- ") for line in read_text(path).splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


def test_an_action_has_one_version_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, version in re.findall(r"uses: (\S+)@(\S+ # \S+)", read_text(path)):
            pins.setdefault("/".join(action.split("/")[:2]), set()).add(version)
    assert len(pins) > 5
    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_the_least_rights(path: Path) -> None:
    assert read_yaml(path)["permissions"] == {}
    for job in read_jobs(path).values():
        written = {name for name, right in job["permissions"].items() if right == "write"}
        assert written <= WRITES.get(path.name, set())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_checkout_leaves_the_token_behind_and_every_job_has_an_end(path: Path) -> None:
    for job in read_jobs(path).values():
        assert job["timeout-minutes"] <= 60
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []


@pytest.mark.parametrize("name", RUNS_ANYONES_CODE)
def test_a_forks_code_meets_no_secret(name: str) -> None:
    source = read_text(FOLDER / name)
    assert "pull_request" in read_events(FOLDER / name)
    assert "pull_request_target" not in source
    assert "secrets." not in source
    assert "token" not in source.replace("persist-credentials", "")
    assert "environment:" not in source


def test_only_the_workflows_that_run_no_forks_code_have_secrets_or_rights() -> None:
    for path in WORKFLOWS:
        if path.name not in RUNS_ANYONES_CODE:
            assert not {"pull_request", "pull_request_target"} & set(read_events(path))


def test_the_job_that_comments_runs_the_code_of_the_default_branch_only() -> None:
    (job,) = read_jobs(FOLDER / "report.yml").values()
    checkout = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    assert "head_sha" not in read_text(FOLDER / "report.yml")
    assert [step["run"] for step in job["steps"] if "env" in step] == ["make ci-comment"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_make_verb_of_a_workflow_is_one_of_the_makefile(path: Path) -> None:
    words = [word for job in read_jobs(path).values() for step in job["steps"] for word in list_make_targets(step)]
    verbs = {word for word in words if not word.startswith(".")}
    assert verbs
    assert {verb for verb in verbs if not re.search(rf"^{verb}:", MAKEFILE, re.MULTILINE)} == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_package_is_installed_by_a_step_that_has_secrets(path: Path) -> None:
    """Installing a package may run its code, so an earlier step without the secrets runs every installation."""
    for job in read_jobs(path).values():
        installed: set[str] = set()
        for step in job["steps"]:
            stamps = {stamp for target in list_make_targets(step) for stamp in list_stamps(target)}
            if re.search(r"secrets\.|github\.token", str([job.get("env"), step.get("env")])):
                assert stamps <= installed, step["run"]
            installed |= stamps


def test_the_stamps_of_a_verb_are_its_prerequisites() -> None:
    assert list_stamps("loop") == {".venv/drift.stamp", ".venv-airflow/stamp"}
    assert list_stamps(".venv/run.stamp") == {".venv/run.stamp"}
    assert list_stamps("image") == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_stands_in_a_script(path: Path) -> None:
    scripts = [step.get("run", "") for job in read_jobs(path).values() for step in job["steps"]]
    assert [script for script in scripts if "${{" in script] == []


def test_the_tests_run_on_every_python_from_the_oldest_one_supported() -> None:
    versions = read_jobs(FOLDER / "ci.yml")["test"]["strategy"]["matrix"]["python"]
    assert versions[0] == "3.11"
    assert "sys.version_info < (3, 11)" in MAKEFILE
    minors = [int(version.split(".")[1]) for version in versions]
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_the_help_lists_every_verb_in_one_line() -> None:
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]
    described = set(re.findall(r"^([a-z-]+):.*## \S", MAKEFILE, re.MULTILINE))
    assert phony == described


def test_clean_leaves_what_nobody_makes_again(tmp_path: Path) -> None:
    """Studies, labelled rows and the user's tables are kept in outputs, as documented."""
    user_files = {"mlflow.db", "mlruns/0/m", "outputs/studies.db", "outputs/loans.csv", "outputs/retraining/a.parquet"}
    generated = {".venv/bin/python", ".mypy_cache/a", "outputs/ci/comment.md", "outputs/images/project.json"}
    for name in user_files | generated:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    remaining = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert remaining == {*user_files, "Makefile"}
