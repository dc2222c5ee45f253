"""Claims of jobs in a sweep: if several jobs need the same step, one runs it and the others wait for its run.

Only the tracking server decides which job runs a step. A parameter of a run can be written once, and the server rejects
a second, different value. Jobs on machines that share nothing else therefore agree too.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from stepkit.store import lineage

ALIVE = "alive"
"""Tag of a job's run that changes as long as its process lives."""

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0
LOOK_INTERVAL_SECONDS = 0.5
KEY_LENGTH = 16


class FailedElsewhere(Exception):
    """A shared step failed in another job; the text is its error message."""


@dataclass
class Claims:
    """Claims on shared steps, as one job of the sweep sees them.

    Attributes:
        client: client of the tracking store.
        ledger: id of the run whose parameters name the job that runs each step.
        run_id: id of this job's run.
        since: start of the sweep in ms since 1970.
        looks: time of the last look at each step that another job runs.
        heartbeats: last value of each job's ALIVE tag, and the time of its last change.
        finished: claims whose step run was found finished.
        sent: time of this job's last heartbeat.
    """

    client: MlflowClient
    ledger: str
    run_id: str
    since: int = 0
    looks: dict[str, float] = field(default_factory=dict)
    heartbeats: dict[str, tuple[str, float]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    sent: float = field(default_factory=time.monotonic)

    def send_heartbeat(self) -> None:
        """Show the other jobs that this one is alive, at most once per HEARTBEAT_SECONDS."""
        if time.monotonic() - self.sent > HEARTBEAT_SECONDS:
            self.sent = time.monotonic()
            self.client.set_tag(self.run_id, ALIVE, f"{self.sent}")

    def has_just_looked(self, step: str) -> bool:
        """Return whether it is too early to look again at a step that another job runs."""
        return time.monotonic() - self.looks.get(step, float("-inf")) < LOOK_INTERVAL_SECONDS

    def claim_step(self, step: str, tag: str, key: str) -> bool:
        """Claim a step for this job; return False if another job runs it or has just finished it.

        Args:
            step: name of the step.
            tag: `step` tag of its runs.
            key: digest of its code, parameters and inputs.

        Raises:
            FailedElsewhere: the step failed in the other job.
        """
        self.looks[step] = time.monotonic()
        for attempt in itertools.count(1):
            name = f"{step}.{key[:KEY_LENGTH]}.{attempt}"
            owner = self._write_claim(name)
            if owner == self.run_id:
                return True
            if self._is_computing(owner, name, tag):
                return False
        raise AssertionError("unreachable")

    def _write_claim(self, name: str) -> str:
        """Claim `name` unless another job has claimed it; return the run id of the owner."""
        try:
            self.client.log_param(self.ledger, name, self.run_id)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
                raise
        return str(self.client.get_run(self.ledger).data.params[name])

    def _is_computing(self, owner: str, name: str, tag: str) -> bool:
        owner_run = self.client.get_run(owner)
        step_run = self._find_step_run(owner_run, tag)
        if step_run and step_run.info.status == "FAILED" and lineage.ERROR in step_run.data.tags:
            raise FailedElsewhere(step_run.data.tags[lineage.ERROR])
        if step_run and step_run.info.status == "FINISHED":
            # This job tries to reuse the run at its next look. If it cannot, the look after that takes over the step.
            is_first_look = name not in self.finished
            self.finished.add(name)
            return is_first_look
        return owner_run.info.status == "RUNNING" and self._is_alive(owner_run)

    def _find_step_run(self, owner: Run, tag: str) -> Run | None:
        query = f"tags.{lineage.STEP} = '{tag}' and tags.`{MLFLOW_PARENT_RUN_ID}` = '{owner.info.run_id}'"
        runs = self.client.search_runs([owner.info.experiment_id], query, max_results=1)
        return runs[0] if runs else None

    def _is_alive(self, owner: Run) -> bool:
        """Return whether the owner's heartbeat changed recently, by this machine's clock: other clocks differ."""
        heartbeat = owner.data.tags.get(ALIVE, "")
        last, since = self.heartbeats.get(owner.info.run_id, (None, 0.0))
        if heartbeat != last:
            self.heartbeats[owner.info.run_id] = (heartbeat, time.monotonic())
            return True
        return time.monotonic() - since < DEAD_AFTER_SECONDS
