"""A step's job for Kubernetes, rendered by MLflow's own code, without a cluster, a registry or a Docker engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import yaml
from mlflow.projects import _parse_kubernetes_config, load_project
from mlflow.projects import kubernetes as backend
from mlflow.projects.utils import get_entry_point_command

from pipeline.steps import STEP_FOLDERS
from stepkit.paths import ROOT
from tests.contract.test_pins import find_distributions, read_lock
from tests.support.repo import get_first_parts, list_imports

FOLDER = ROOT / "docker" / "kubernetes"
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to the repository root, because the template's path in backend.json is relative to it."""
    monkeypatch.chdir(ROOT)


def parse_backend() -> dict[str, Any]:
    """Return backend.json as parsed by MLflow."""
    config: dict[str, Any] = _parse_kubernetes_config(json.loads((FOLDER / "backend.json").read_text()))
    return config


def render_job(entry: str, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("KUBE_MLFLOW_TRACKING_URI", "http://mlflow:7755")
    config = parse_backend()
    project = load_project(str(FOLDER))
    command = backend._get_run_command(get_entry_point_command(project, entry, parameters, None))
    image = f"{config['repository-uri']}:abc1234"
    env = {"MLFLOW_RUN_ID": "r1", "MLFLOW_EXPERIMENT_ID": "0", "MLFLOW_TRACKING_URI": "http://127.0.0.1:7755"}
    job: dict[str, Any] = backend._get_kubernetes_job_definition(
        project.name, image, DIGEST, command, env, config["kube-job-template"]
    )
    return job


def test_a_job_goes_to_the_cluster_that_kubectl_speaks_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clusters = {"tests": "https://tests.example.org:6443", "production": "https://production.example.org:6443"}
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "production",
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in clusters],
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in clusters.items()],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(settings))
    # Kubernetes' client reads KUBECONFIG at import, which has already happened
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    monkeypatch.setattr(kubernetes.client.Configuration, "_default", None)
    backend._load_kube_context(context=parse_backend().get("kube-context", None))  # the same call as in mlflow.projects
    assert kubernetes.client.Configuration.get_default_copy().host == clusters["production"]


def test_what_mlflow_needs_for_a_cluster_is_locked_or_named_with_what_installs_it() -> None:
    """`make run` installs run.lock, which does not contain the package kubernetes."""
    page = (ROOT / "docs" / "stack.md").read_text()
    (words,) = re.findall(r"uv pip install .* --constraint requirements/test\.lock ([^#\n]+)", page)
    named = set(words.split())
    assert named <= set(read_lock(ROOT / "requirements" / "test.lock"))
    modules = get_first_parts(list_imports(Path(backend.__file__))) - sys.stdlib_module_names
    provided = {*read_lock(ROOT / "requirements" / "run.lock"), *named}
    assert {module for module in modules if not find_distributions(module) & provided} == set()


def test_mlflow_fills_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    job = render_job("step", {"step": "preprocess"}, monkeypatch)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.org/credit-default/steps:abc1234@{DIGEST}"
    assert "{replaced" not in json.dumps(job)
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert values["MLFLOW_RUN_ID"] == "r1"
    assert values["MLFLOW_TRACKING_URI"] == "http://mlflow:7755"
    assert len(values) == len(container["env"]), "a variable stands twice; which one counts, no one sees"


def test_the_job_has_only_fields_that_kubernetes_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of Kubernetes' client drop unknown keys, so a job that survives reading and writing has none."""
    job = render_job("main", {}, monkeypatch)

    client = kubernetes.client.ApiClient()
    read = client.deserialize(json.dumps(job), "V1Job", "application/json")
    assert client.sanitize_for_serialization(read) == job  # type: ignore[no-untyped-call]


def test_the_job_has_no_rights_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = render_job("main", {}, monkeypatch)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"]["limits"]["memory"]
    secrets = [variable for variable in container["env"] if "PASSWORD" in variable["name"]]
    assert secrets
    assert all("valueFrom" in secret for secret in secrets)


def run_job(job: dict[str, Any], tmp_path: Path) -> list[str]:
    """Run the job's command like a container, with programs that print their arguments; return these arguments."""
    program = tmp_path / "mlflow"
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)
    (tmp_path / "python").symlink_to(program)
    command = [word.replace("/srv/project/docker", str(ROOT / "docker")) for word in
               job["spec"]["template"]["spec"]["containers"][0]["command"]]  # fmt: skip
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MLFLOW_RUN_ID": "r1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_options_reach_the_pipeline_as_they_were_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = "data=uci main.execute_steps=[download,preprocess] main.experiment_name='a b'"
    job = render_job("main", {"hydra_options": options}, monkeypatch)
    assert run_job(job, tmp_path) == ["/srv/project/main.py", "--hydra_options", options]


def test_options_reach_a_step_as_they_were_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = "-P artifact_name=raw_data.csv -P artifact_description='as it came'"
    job = render_job("step", {"step": STEP_FOLDERS[0], "options": options}, monkeypatch)
    start = ["run", f"/srv/project/{STEP_FOLDERS[0]}", "--env-manager", "local", "--run-id", "r1"]
    assert run_job(job, tmp_path) == [
        *start,
        "-P",
        "artifact_name=raw_data.csv",
        "-P",
        "artifact_description=as it came",
    ]
