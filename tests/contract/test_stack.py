"""Docker Compose, hadolint, promtool and Grafana accept the files of docker/, which also agree with each other."""

from __future__ import annotations

import re
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker.utils.build  # type: ignore[import-not-found]  # the installed package; mypy sees this folder
import pytest
import yaml

from pipeline.steps import STEP_FOLDERS
from stepkit.paths import ROOT
from tests.stack.dashboards import dashboards, queries
from tests.stack.services import COMPOSE_FILE, DOCKERFILE, compose, model, services
from tests.stack.stack import filled_env, secrets_of
from tests.support.repo import get_name, list_files, read_yaml

pytestmark = pytest.mark.slow

CORE = {"postgres", "mlflow", "mlflow-accounts", "scorer"}
ON_DEMAND = {"pipeline", "backup"}
ONCE = {"mlflow-accounts", "airflow-init", *ON_DEMAND}
"""Services that end by themselves."""

IGNORED = ROOT / "docker" / "Dockerfile.dockerignore"
STARS = ("-wal", ".before-2026-11-24T20-00-00Z")
"""What stands in for the star of a pattern: the names that SQLite and a restore make."""

ALERTS = ROOT / "docker" / "prometheus" / "alerts.yml"


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_env(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def defined(env_file: Path) -> dict[str, dict[str, Any]]:
    return {name: service.definition for name, service in services(env_file).items()}


def test_docker_compose_takes_the_file_without_a_word(env_file: Path) -> None:
    read = compose("--profile", "*", "config", "--quiet", env_file=env_file)
    assert (read.returncode, read.stderr) == (0, "")


def test_the_file_is_held_to_the_schema_of_compose(env_file: Path, tmp_path: Path) -> None:
    """The schema is Compose's own, so it detects a misspelt key such as `healthchek`."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE_FILE.read_text().replace("    healthcheck:\n", "    healthchek:\n", 1))
    command = [str(Path(sys.executable).parent / "docker-compose"), "-f", str(wrong), "--env-file", str(env_file)]
    read = subprocess.run([*command, "config", "--quiet"], capture_output=True, text=True)
    assert read.returncode != 0
    assert "healthchek" in read.stderr


def test_nothing_starts_while_a_secret_is_missing(env_file: Path, tmp_path: Path) -> None:
    lacking = tmp_path / ".env"
    lacking.write_text(re.sub("^SCORER_API_KEY=.*$", "SCORER_API_KEY=", env_file.read_text(), flags=re.MULTILINE))
    read = compose("--profile", "core", "config", "--quiet", env_file=lacking)
    assert read.returncode != 0
    assert "SCORER_API_KEY is missing a value: Run make secrets" in read.stderr


def test_the_example_names_every_variable_and_no_secret() -> None:
    text = (ROOT / "docker" / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z_]+)=", text, flags=re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE_FILE.read_text()))
    optional = {name for name in used if name.endswith("_IMAGE")} | {"SCORER_WORKERS"}
    assert used - optional == named - {"COMPOSE_PROFILES"}
    assert re.findall(r"^[A-Z_]*(?:PASSWORD|KEY|SECRET)=.+$", text, flags=re.MULTILINE) == []


def test_the_profile_core_is_the_least_that_answers(env_file: Path) -> None:
    assert set(compose("--profile", "core", "config", "--services", env_file=env_file).stdout.split()) == CORE
    everything = set(compose("config", "--services", env_file=env_file).stdout.split())
    assert everything > CORE
    assert not everything & ON_DEMAND


def test_every_service_has_limits_and_no_rights(defined: dict[str, dict[str, Any]]) -> None:
    limits = {name: service["deploy"]["resources"]["limits"] for name, service in defined.items()}
    assert {name for name, limit in limits.items() if not limit["memory"]} == set()
    assert {name for name, service in defined.items() if not service["read_only"]} == set()
    assert {name for name, service in defined.items() if service["cap_drop"] != ["ALL"]} == set()
    assert {name for name, service in defined.items() if service["security_opt"] != ["no-new-privileges:true"]} == set()
    assert {name for name, service in defined.items() if service.get("privileged")} == set()
    assert {name for name, service in defined.items() if service.get("network_mode")} == set()


def test_a_read_only_service_has_no_config_or_secret_but_of_a_file(env_file: Path) -> None:
    """Compose would have to write any other secret into the read-only container, which fails (docker/compose#12031)."""
    read = model(env_file)
    writable = [
        (name, kind, entry["source"])
        for name, service in read["services"].items()
        for kind in ("configs", "secrets")
        for entry in service.get(kind, [])
        if service.get("read_only")
    ]
    assert [(name, source) for name, kind, source in writable if "file" not in read[kind][source]] == []


def test_prometheus_finds_the_scorers_key_where_it_looks_for_it(env_file: Path, tmp_path: Path) -> None:
    """Run the service's command line with a program instead of Prometheus that prints its arguments."""
    service = services(env_file)["prometheus"]
    configuration = (ROOT / "docker" / "prometheus" / "prometheus.yml").read_text()
    (key,) = re.findall(r"credentials_file: (\S+?)\}", configuration)
    folder = str(Path(key).parent)
    assert folder in [entry.partition(":")[0] for entry in service.definition["tmpfs"]]
    program = tmp_path / "prometheus"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    env = {**service.environment, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [word.replace(folder, str(tmp_path)) for word in service.command]
    ended = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, service.definition["command"])
    written = tmp_path / Path(key).name
    assert written.read_text() == secrets_of(env_file)["SCORER_API_KEY"]
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_every_lasting_service_is_looked_after(defined: dict[str, dict[str, Any]]) -> None:
    lasting = {name: service for name, service in defined.items() if name not in ONCE}
    assert {name for name, service in lasting.items() if not service.get("healthcheck")} == set()
    assert {service["restart"] for service in lasting.values()} == {"unless-stopped"}


def test_services_wait_for_health_and_never_for_a_mere_start(defined: dict[str, dict[str, Any]]) -> None:
    waits = [rule["condition"] for service in defined.values() for rule in service.get("depends_on", {}).values()]
    assert set(waits) == {"service_healthy", "service_completed_successfully"}


def test_ports_are_opened_on_this_machine_only_and_none_of_the_database(defined: dict[str, dict[str, Any]]) -> None:
    opened = {name: port for name, service in defined.items() for port in service.get("ports", [])}
    assert {port["host_ip"] for port in opened.values()} == {"127.0.0.1"}
    assert opened["mlflow"]["published"] == "7755"
    assert "postgres" not in opened


@pytest.mark.parametrize("profile", ["core", "full"])
def test_the_look_before_the_start_knows_which_ports_a_profile_opens(
    profile: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docker")
    looked_at = runpy.run_path(str(ROOT / "docker" / "preflight.py"))["PROFILES"][profile]
    started = model(env_file, profile)["services"].values()
    opened = {port["published"] for service in started for port in service.get("ports", [])}
    assert {secrets_of(env_file)[name] for name in looked_at} == opened


@pytest.mark.parametrize(("words", "profile"), [([], "full"), (["profile=core"], "core")], ids=["full", "core"])
def test_make_stack_looks_at_the_profile_that_it_starts(words: list[str], profile: str) -> None:
    shown = subprocess.run(["make", "--dry-run", "stack", *words], cwd=ROOT, capture_output=True, text=True).stdout
    assert re.findall(r"--profile (\S+)", shown) == [profile, profile]


def test_images_from_outside_have_a_version(defined: dict[str, dict[str, Any]]) -> None:
    outside = {service["image"] for service in defined.values() if "build" not in service}
    outside |= set(re.findall(r"^ARG \w+_IMAGE=(\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE))
    assert [image for image in outside if not re.search(r":v?\d+\.\d+", image)] == []


def test_an_image_has_one_version_everywhere_and_the_python_of_every_environment() -> None:
    """The images have the Python version of conda.yml, and pg_dump has the version of the server."""
    text = COMPOSE_FILE.read_text() + DOCKERFILE.read_text()
    named = re.findall(r"docker\.io/([\w/]+):v?(\d[\w.-]*)", text)
    assert len({version for image, version in named if image == "library/postgres"}) == 1
    assert {image: version for image, version in named if (image, version) != (image, dict(named)[image])} == {}
    python = str(dict(named)["library/python"])
    (requirement,) = [line for line in read_yaml(ROOT / "conda.yml")["dependencies"] if str(line).startswith("python=")]
    assert f"python={'.'.join(python.split('.')[:2])}" == requirement


def test_the_images_are_built_from_the_hashed_locks() -> None:
    text = DOCKERFILE.read_text()
    installed = re.findall(r"pip .*?install .*?--requirement /build/(\S+)", text.replace("\\\n", ""))
    assert set(installed) == {"run.lock", "drift.lock", "airflow.lock"}
    assert text.count("--require-hashes") == len(installed)


def test_hadolint_has_nothing_to_say() -> None:
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), str(DOCKERFILE)], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def test_images_hold_the_code_and_nothing_private() -> None:
    """Evaluated by the rules of docker's own client for the files that it sends to the engine."""
    sent = list_sent_files(ROOT)
    private = [path for path in sent if re.search(r"(^|/)(\.git|\.venv|tests|backups|mlruns)(/|$)|\.env|\.db$", path)]
    assert private == []
    needed = {get_name(path) for path in list_files() if path.suffix == ".py" and get_name(path).split("/")[0] in
              {*STEP_FOLDERS, "stepkit", "pipeline", "serve", "prediction_log", "backup", "main.py"}}  # fmt: skip
    assert needed - sent == set()


def test_images_hold_nothing_that_git_ignores(tmp_path: Path) -> None:
    """The folder of a user who builds an image contains runs, predictions, reports and passwords."""
    ignored = [path for line in read_patterns(ROOT / ".gitignore") for path in list_ignored_paths(line)]
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    ended = subprocess.run(["git", "check-ignore", "--", *ignored], cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout.splitlines() == ignored
    for name in [*ignored, ".uv-cache/x/1", "mlruns.before-2026/1", "docker/.env~", "main.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_sent_files(tmp_path) == {"main.py"}


def read_patterns(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def list_ignored_paths(line: str) -> list[str]:
    """Return sample files for a line of .gitignore; a line without a folder applies in every folder."""
    names = [line.replace("*", star) for star in STARS] if "*" in line else [line]
    files = [f"{name}held/1" if name.endswith("/") else name for name in names]
    anywhere = "/" not in line.rstrip("/")
    return [f"{folder}{file}" for folder in (["", "prediction_log/"] if anywhere else [""]) for file in files]


def list_sent_files(folder: Path) -> set[str]:
    """Return the files of a folder that a build of the images may read."""
    sent = docker.utils.build.exclude_paths(str(folder), read_patterns(IGNORED), dockerfile="docker/Dockerfile")
    return {path for path in sent if (folder / path).is_file()}


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    folder = ROOT / "docker" / "prometheus"
    command = ["promtool", "check", "config", "--syntax-only", str(folder / "prometheus.yml")]
    for words in (command, ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS)]):
        ended = subprocess.run(words, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


CALLS = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'scorer_requests_total{{path="/invocations", status="503"}}', values: '0+{failed}x20'}}
      - {{series: 'scorer_requests_total{{path="/invocations", status="200"}}', values: '0+100x20'}}
      - {{series: 'scorer_requests_total{{path="/health", status="200"}}', values: '0+60000x20'}}
    alert_rule_test:
      - {{eval_time: 20m, alertname: ScorerErrors, exp_alerts: [{expected}]}}
"""
FIRING = "{exp_labels: {severity: page}, exp_annotations: {summary: '%s', runbook_url: 'docs/runbook.md#scorererrors'}}"
SUMMARY = "5.66% of the scoring and feedback requests of the last 5 minutes failed (HTTP 5xx)."


@pytest.mark.parametrize(("failed", "expected"), [(0, ""), (6, FIRING % SUMMARY)], ids=["all answered", "some failed"])
def test_requests_for_health_do_not_hide_what_callers_do_not_get(failed: int, expected: str, tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    (tmp_path / "case.yml").write_text(CALLS.format(rules=ALERTS, failed=failed, expected=expected))
    ended = subprocess.run(["promtool", "test", "rules", str(tmp_path / "case.yml")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_its_section_in_the_runbook() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules}
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    assert set(links) == set(sections)
    assert links == {name: f"docs/runbook.md#{name.lower()}" for name in links}


def test_dashboards_ask_only_data_sources_that_are_provided() -> None:
    provided = yaml.safe_load((ROOT / "docker/grafana/provisioning/datasources/all.yml").read_text())["datasources"]
    assert {query.source for query in queries()} == {source["uid"] for source in provided}


@pytest.mark.parametrize("name", ["service", "model", "drift"])
def test_a_dashboard_is_fit_to_be_read(name: str) -> None:
    panels = dashboards()[name]["panels"]
    assert dashboards()[name]["uid"] == name
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if not panel["description"]] == []
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells), "panels lie on one another"
    assert max(at["x"] + at["w"] for at in places) <= 24
