"""pipeline.reuse.claims on a real store: one of several jobs runs a shared step, and the others wait."""

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


def make_claims(experiment: Experiment, ledger: str) -> Claims:
    return Claims(experiment.client, ledger, experiment.client.create_run(experiment.id).info.run_id)


def create_step_run(experiment: Experiment, owner: Claims, status: str, **tags: str) -> Run:
    tags = {"step": "download_data", "mlflow.parentRunId": owner.run_id, **tags}
    run = experiment.client.create_run(experiment.id, tags=tags)
    experiment.client.set_terminated(run.info.run_id, status)
    return run


def test_of_jobs_that_ask_at_the_same_instant_one_computes(experiment: Experiment, ledger: str) -> None:
    jobs = [make_claims(experiment, ledger) for _ in range(8)]
    together = Barrier(len(jobs))

    def ask(claims: Claims) -> bool:
        together.wait()
        return claims.claim_step(*STEP)

    with ThreadPoolExecutor(len(jobs)) as pool:
        assert sorted(pool.map(ask, jobs)) == [False] * 7 + [True]
    assert sorted(claims.claim_step(*STEP) for claims in jobs) == [False] * 7 + [True], (
        "the same result at the second look"
    )
    assert jobs[0].claim_step("preprocess", "preprocess", KEY), "another step"
    assert jobs[1].claim_step("download", "download_data", "e" * 64), "the same step with other inputs"


def test_a_job_that_gives_no_sign_of_life_is_replaced_by_one(
    experiment: Experiment, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, second, third = (make_claims(experiment, ledger) for _ in range(3))
    assert owner.claim_step(*STEP)
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.0)
    assert not third.claim_step(*STEP)
    assert not second.claim_step(*STEP)
    monkeypatch.setattr(claims, "DEAD_AFTER_SECONDS", 0.0)
    for _ in range(3):
        owner.send_heartbeat()
        assert not second.claim_step(*STEP), "the owner sends heartbeats"
    assert second.claim_step(*STEP), "the owner has stopped"
    assert not third.claim_step(*STEP), "the new owner has just started"


def test_a_failure_is_not_repeated_by_every_job(experiment: Experiment, ledger: str) -> None:
    owner, second = make_claims(experiment, ledger), make_claims(experiment, ledger)
    assert owner.claim_step(*STEP)
    create_step_run(experiment, owner, "FAILED", error="nothing found at that address")
    with pytest.raises(FailedElsewhere, match="nothing found at that address"):
        second.claim_step(*STEP)


def test_a_step_that_was_killed_is_taken_over(experiment: Experiment, ledger: str) -> None:
    owner, second = make_claims(experiment, ledger), make_claims(experiment, ledger)
    assert owner.claim_step(*STEP)
    create_step_run(experiment, owner, "KILLED")
    experiment.client.set_terminated(owner.run_id, "KILLED")
    assert second.claim_step(*STEP)


def test_finished_work_that_cannot_be_reused_is_done_again_at_the_second_look(
    experiment: Experiment, ledger: str
) -> None:
    owner, second = make_claims(experiment, ledger), make_claims(experiment, ledger)
    assert owner.claim_step(*STEP)
    create_step_run(experiment, owner, "FINISHED")
    experiment.client.set_terminated(owner.run_id)
    assert not second.claim_step(*STEP), "the first look tries to reuse it"
    assert second.claim_step(*STEP)
