"""The next pipeline ends runs whose process died, but not those of living processes or of other hosts."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil

from stepkit.paths import ROOT
from stepkit.processes import HOST, PID, STARTED, make_process_tags
from stepkit.store.dead_runs import end_dead_runs
from tests.conftest import Experiment, make_command_env
from tests.support.ctrl_c import PATH, make_command
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import run_here, write_small_table
from tests.support.servers import wait_until


def fetch_status(experiment: Experiment, run_id: str) -> str:
    return str(experiment.client.get_run(run_id).info.status)


def test_only_runs_of_dead_processes_of_this_host_are_ended(experiment: Experiment) -> None:
    own_tags = make_process_tags()
    cases = {
        "alive": (own_tags, "RUNNING"),
        "dead": ({**own_tags, STARTED: "1"}, "KILLED"),
        "elsewhere": ({**own_tags, HOST: "removed 1f2e", PID: "1"}, "RUNNING"),
        "earlier release": ({}, "RUNNING"),
    }
    runs = {
        name: experiment.client.create_run(experiment.id, tags=tags).info.run_id for name, (tags, _) in cases.items()
    }
    lines = {name: [line for line in end_dead_runs(experiment.client) if run in line] for name, run in runs.items()}
    for name, (_, status) in cases.items():
        assert fetch_status(experiment, runs[name]) == status, name
    assert lines["alive"] == lines["earlier release"] == []
    (line,) = lines["elsewhere"]
    assert "another host (removed)" in line
    printed = line.split("end the run: ")[1]
    ended = subprocess.run(["bash", "-c", printed], cwd=ROOT, env=make_command_env(), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert fetch_status(experiment, runs["elsewhere"]) == "KILLED"
    for name in ("alive", "earlier release"):
        experiment.client.set_terminated(runs[name])


def test_a_pipeline_that_was_killed_is_ended_by_the_next_one(
    experiment: Experiment, faulty_server: FaultyServer, tmp_path: Path
) -> None:
    faulty_server.files["clients.csv"] = b"ID,LIMIT_BAL\n" * 1000
    words = make_command("python main.py", experiment, faulty_server.url(PATH))
    process = subprocess.Popen(
        words, cwd=ROOT, env=make_command_env(), start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: faulty_server.asked[PATH] > 0 or process.poll() is not None, "the download has begun")
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.suspend()  # a step that sees its parent end would end its own run
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for member in family:
        if member.is_running():  # each step leads its own process group
            member.kill()
    psutil.wait_procs(family)
    killed = {run.info.run_name: run for run in experiment.client.search_runs([experiment.id])}
    assert {run.info.status for run in killed.values()} == {"RUNNING"}
    assert killed["download_data"].data.tags[PID] != killed["pipeline"].data.tags[PID], (
        "the step's run names the step's process"
    )
    table = write_small_table(tmp_path, rows=300)
    following = run_here(experiment, f"data.file_url={table}", "main.execute_steps=download")
    assert not following.error
    for run in killed.values():
        assert f"run {run.info.run_id} ({run.info.run_name}): ended, because its process had died" in following.said
        assert fetch_status(experiment, run.info.run_id) == "KILLED"
    assert following.runs.parent.info.status == "FINISHED"
