"""pipeline.reuse.claims on a real store: exactly one of several jobs runs a step that they share; the others wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from mlflow.entities import Run

from pipeline.reuse import claims
from pipeline.reuse.claims import Claims, FailedElsewhere
from tests.conftest import Experiment

KEY = "f" * 64
STEP = ("download", "download_data", KEY)


@pytest.fixture
def ledger(experiment: Experiment) -> str:
    return str(experiment.client.create_run(experiment.id).info.run_id)


def job(experiment: Experiment, ledger: str) -> Claims:
    return Claims(experiment.client, ledger, experiment.client.create_run(experiment.id).info.run_id)


def step_of(experiment: Experiment, owner: Claims, status: str, **tags: str) -> Run:
    tags = {"step": "download_data", "mlflow.parentRunId": owner.own, **tags}
    run = experiment.client.create_run(experiment.id, tags=tags)
    experiment.client.set_terminated(run.info.run_id, status)
    return run


def test_of_jobs_that_ask_at_the_same_instant_one_computes(experiment: Experiment, ledger: str) -> None:
    jobs = [job(experiment, ledger) for _ in range(8)]
    together = Barrier(len(jobs))

    def ask(one: Claims) -> bool:
        together.wait()
        return one.claim_step(*STEP)

    with ThreadPoolExecutor(len(jobs)) as pool:
        assert sorted(pool.map(ask, jobs)) == [False] * 7 + [True]
    assert sorted(one.claim_step(*STEP) for one in jobs) == [False] * 7 + [True], "the same answer at the second look"
    assert jobs[0].claim_step("preprocess", "preprocess", KEY), "another step"
    assert jobs[1].claim_step("download", "download_data", "e" * 64), "the same step with other inputs"


def test_a_job_that_gives_no_sign_of_life_is_replaced_by_one(
    experiment: Experiment, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, second, third = (job(experiment, ledger) for _ in range(3))
    assert owner.claim_step(*STEP)
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.0)
    assert not third.claim_step(*STEP)
    assert not second.claim_step(*STEP)
    monkeypatch.setattr(claims, "DEAD_AFTER_SECONDS", 0.0)
    for _ in range(3):
        owner.send_heartbeat()
        assert not second.claim_step(*STEP), "the owner gives signs of life"
    assert second.claim_step(*STEP), "the owner has stopped"
    assert not third.claim_step(*STEP), "the one that took over has just begun"


def test_a_failure_is_not_repeated_by_every_job(experiment: Experiment, ledger: str) -> None:
    owner, second = job(experiment, ledger), job(experiment, ledger)
    assert owner.claim_step(*STEP)
    step_of(experiment, owner, "FAILED", error="nothing found at that address")
    with pytest.raises(FailedElsewhere, match="nothing found at that address"):
        second.claim_step(*STEP)


def test_a_step_that_was_killed_is_taken_over(experiment: Experiment, ledger: str) -> None:
    owner, second = job(experiment, ledger), job(experiment, ledger)
    assert owner.claim_step(*STEP)
    step_of(experiment, owner, "KILLED")
    experiment.client.set_terminated(owner.own, "KILLED")
    assert second.claim_step(*STEP)


def test_finished_work_that_cannot_be_reused_is_done_again_at_the_second_look(
    experiment: Experiment, ledger: str
) -> None:
    owner, second = job(experiment, ledger), job(experiment, ledger)
    assert owner.claim_step(*STEP)
    step_of(experiment, owner, "FINISHED")
    experiment.client.set_terminated(owner.own)
    assert not second.claim_step(*STEP), "it is looked up as finished work first"
    assert second.claim_step(*STEP)
