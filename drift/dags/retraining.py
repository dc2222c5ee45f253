"""
### A new model, because the world has changed

Begins when `drift_monitoring` confirms drift (the asset `drift_confirmed`), or by *Trigger*. **why** takes down what
asked for it; **labelled** writes the answered requests whose outcome is known; **train** runs the root project on them,
up to the gate, which alone decides whether the new version becomes champion; **tell** says what came of it.

The drift run and the reason stand on the pipeline's run and on the version (`because.*`). The scorer takes a new
champion by itself. *Trigger* takes another table (`file_url`) and further options (`options`). Killed and started
again, it goes on where it ended: finished steps are reused.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import project
from airflow.sdk import Asset, Param, dag, get_current_context, task

DRIFT_CONFIRMED = Asset("drift_confirmed")


@dag(
    schedule=[DRIFT_CONFIRMED],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    doc_md=__doc__,
    tags=["drift", "training", "credit_default"],
    default_args=project.TASK_DEFAULTS,
    params={
        "reason": Param("asked for by hand", type="string", description="why, where no drift run asked for it"),
        "file_url": Param(None, type=["null", "string"], description="table to train on; null: the labelled requests"),
        "options": Param("", type="string", description="further hydra options: data=uci main.experiment_name=x"),
    },
)
def retraining() -> None:
    @task(execution_timeout=timedelta(minutes=1))
    def why() -> dict[str, str]:
        context = get_current_context()
        asked = [event.extra for event in context["triggering_asset_events"][DRIFT_CONFIRMED]]
        return project.explain_retraining(asked, context["params"]["reason"])

    @task(execution_timeout=timedelta(minutes=30))
    def labelled(_because: dict[str, str]) -> str:
        context = get_current_context()
        return context["params"]["file_url"] or project.export_labelled(context["run_id"])

    @task(execution_timeout=timedelta(hours=6))
    def train(because: dict[str, str], table: str) -> str:
        return project.train(table, because, get_current_context()["params"]["options"])

    @task(execution_timeout=timedelta(minutes=5))
    def tell(pipeline_run_id: str) -> None:
        project.send_success(get_current_context(), "retraining", {"run_id": pipeline_run_id})

    reason = why()
    tell(train(reason, labelled(reason)))


retraining()
