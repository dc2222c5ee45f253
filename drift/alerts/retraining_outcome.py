"""What came of a retraining, as its pipeline's run says."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow import MlflowClient

from stepkit.store import tracking
from stepkit.store.champion import champion_of
from stepkit.store.lineage import BECAUSE, PIPELINE


@dataclass(frozen=True)
class Outcome:
    """What a message about a retraining says.

    Attributes:
        key: the drift run that asked for it, else the pipeline's own run: one cause, one message.
    """

    key: str
    title: str
    lines: tuple[str, ...]
    experiment_id: str


def outcome_of(run_id: str) -> Outcome:
    """Read a finished pipeline's run and the registry.

    Raises:
        TrackingUnreachable: the tracking server does not answer.
    """
    tracking.connect()
    client = MlflowClient()
    run = client.get_run(run_id)
    # with another experiment or tracking server the pipeline opens a run of its own, and the first one names it
    run = client.get_run(run.data.tags.get(PIPELINE, run_id))
    tags, metrics = run.data.tags, run.data.metrics
    name, version = tags.get("model_name", "the model"), tags.get("model_version", "?")
    champion = champion_of(client, name)
    stands = champion is not None and str(champion.version) == version
    title = f"{name} version {version} is the new champion" if stands else f"{name} version {version} is no champion"
    lines = (
        f"Verdict: {tags.get('verdict', 'none')}, test AUC {metrics.get('test_roc_auc', float('nan')):.4f}.",
        f"Champion: version {champion.version}." if champion and not stands else "",
        f"Why it was retrained: {tags.get(BECAUSE + 'reason', 'nobody said')}",
    )
    return Outcome(tags.get(BECAUSE + "drift_run_id", run_id), f"Retrained: {title}", lines, run.info.experiment_id)
