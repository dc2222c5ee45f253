"""### Retraining: train a new version on the newest labelled rows.

The DAG starts when `drift_monitoring` confirms drift (asset `drift_confirmed`), or by *Trigger*.

| task | does |
| --- | --- |
| **why** | records the drift run and the reason |
| **labelled** | writes the labelled rows of the prediction log to a table |
| **train** | runs the pipeline on this table; the gate decides if the new version becomes champion |
| **`tell`** | sends the result to the addresses in the connection `drift_alerts` |

The tags `because.*` of the pipeline run and of the new version hold the drift run and the reason. The scorer loads a
new champion by itself. *Trigger* accepts another table (`file_url`) and more pipeline options (`options`). A restarted
run resumes: finished steps are reused.
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
        "reason": Param(
            "started by hand", type="string", description="reason, if no drift run requested the retraining"
        ),
        "file_url": Param(
            None,
            type=["null", "string"],
            description="table to train on; null: the labelled rows of the prediction log",
        ),
        "options": Param(
            "", type="string", description="more pipeline options, for example data=uci main.experiment_name=x"
        ),
    },
)
def retraining() -> None:
    """Define the tasks of the DAG."""

    @task(execution_timeout=timedelta(minutes=1))
    def why() -> dict[str, str]:
        context = get_current_context()
        requests = [event.extra for event in context["triggering_asset_events"][DRIFT_CONFIRMED]]
        return project.explain_retraining(requests, context["params"]["reason"])

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
