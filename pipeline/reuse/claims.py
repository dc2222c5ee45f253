"""Jobs of a sweep that need the same step at the same time: one computes it, the others wait for its run.

Who computes it is settled by the tracking server alone: a parameter of a run is written once, and a second
writer of another value is refused. So jobs on machines that share nothing else agree too.
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
    """The job that computed a shared step failed at it; the text is what it said."""


@dataclass
class Claims:
    """One job's view on who computes what in its sweep.

    Attributes:
        ledger: the run whose parameters name the job that computes each step.
        own: the run of this job.
        since: when the sweep began, in ms since 1970.
    """

    client: MlflowClient
    ledger: str
    own: str
    since: int = 0
    looked: dict[str, float] = field(default_factory=dict)
    signs: dict[str, tuple[str, float]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    signed: float = field(default_factory=time.monotonic)

    def send_heartbeat(self) -> None:
        """Let the others see that this job is alive."""
        if time.monotonic() - self.signed > HEARTBEAT_SECONDS:
            self.signed = time.monotonic()
            self.client.set_tag(self.own, ALIVE, f"{self.signed}")

    def has_just_looked(self, step: str) -> bool:
        """Whether it is too early to look again at a step that another job computes."""
        return time.monotonic() - self.looked.get(step, float("-inf")) < LOOK_INTERVAL_SECONDS

    def claim_step(self, step: str, tag: str, key: str) -> bool:
        """Whether this job is to compute `step` (its runs have the tag `tag`); if not, another one does, or has.

        Raises:
            FailedElsewhere: the other job failed at it.
        """
        self.looked[step] = time.monotonic()
        for attempt in itertools.count(1):
            name = f"{step}.{key[:KEY_LENGTH]}.{attempt}"
            owner = self._write_claim(name)
            if owner == self.own:
                return True
            if self._is_computing(owner, name, tag):
                return False
        raise AssertionError("unreachable")

    def _write_claim(self, name: str) -> str:
        """Write down that this job computes `name`, unless another has; return who does."""
        try:
            self.client.log_param(self.ledger, name, self.own)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
                raise
        return str(self.client.get_run(self.ledger).data.params[name])

    def _is_computing(self, owner: str, name: str, tag: str) -> bool:
        run = self.client.get_run(owner)
        found = self._find_step_run(run, tag)
        if found and found.info.status == "FAILED" and lineage.ERROR in found.data.tags:
            raise FailedElsewhere(found.data.tags[lineage.ERROR])
        if found and found.info.status == "FINISHED":
            # it is found as finished work at the next look; if it is no good, the look after that takes over
            first_time = name not in self.finished
            self.finished.add(name)
            return first_time
        return run.info.status == "RUNNING" and self._is_alive(run)

    def _find_step_run(self, owner: Run, tag: str) -> Run | None:
        chosen = f"tags.{lineage.STEP} = '{tag}' and tags.`{MLFLOW_PARENT_RUN_ID}` = '{owner.info.run_id}'"
        found = self.client.search_runs([owner.info.experiment_id], chosen, max_results=1)
        return found[0] if found else None

    def _is_alive(self, owner: Run) -> bool:
        """By this machine's clock alone: clocks of several machines differ."""
        sign = owner.data.tags.get(ALIVE, "")
        last, since = self.signs.get(owner.info.run_id, (None, 0.0))
        if sign != last:
            self.signs[owner.info.run_id] = (sign, time.monotonic())
            return True
        return time.monotonic() - since < DEAD_AFTER_SECONDS
