"""### Drift monitoring: do requests still look like the training data?

| task | does |
| --- | --- |
| **window** | chooses a window of the prediction log |
| **report** | compares it with the training data of the champion (`mlflow run ./drift`), and applies the policy |
| **alert** | sends the alert or the all-clear to the addresses in the connection `drift_alerts` |
| **decide** | continues only if the decision is to retrain |
| **drift_confirmed** | starts the DAG `retraining` by an asset event |

The window is the data interval of the DAG run. *Trigger* accepts another window (`window_from` and `window_to`, or the
last `rows`) and other parameters of the report (`options`), for one run.

A repeated window reuses the finished report, and does not request a second retraining. Clear a DAG run to request one
again. A backfill reports on past windows; it sends no alerts and does not retrain.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import project
from airflow.sdk import Asset, CronDataIntervalTimetable, Metadata, Param, dag, get_current_context, task

DRIFT_CONFIRMED = Asset("drift_confirmed")


@dag(
    schedule=None if project.SCHEDULE == "none" else CronDataIntervalTimetable(project.SCHEDULE, timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["drift", "credit_default"],
    default_args=project.TASK_DEFAULTS,
    params={
        "window_from": Param(
            None, type=["null", "string"], format="date-time", description="start of the window (included)"
        ),
        "window_to": Param(
            None, type=["null", "string"], format="date-time", description="end of the window (excluded)"
        ),
        "rows": Param(
            None, type=["null", "integer"], minimum=1, description="instead of times: the newest N rows of the log"
        ),
        "options": Param(
            {}, type="object", description="parameters of mlflow run ./drift: keys of drift in config.yaml"
        ),
    },
)
def drift_monitoring() -> None:
    """Define the tasks of the DAG."""

    @task(execution_timeout=timedelta(minutes=1))
    def window() -> str:
        context = get_current_context()
        run = context["dag_run"]
        return project.choose_window(context["params"], run.data_interval_start, run.data_interval_end, run.run_after)

    @task(execution_timeout=timedelta(minutes=30))
    def report(current: str) -> dict[str, Any]:
        return project.report_window(current, get_current_context()["params"]["options"])

    @task.skip_if(project.is_backfill)
    @task(execution_timeout=timedelta(minutes=5))
    def alert(result: dict[str, Any]) -> None:
        project.send_success(get_current_context(), "window", result)

    @task.short_circuit(execution_timeout=timedelta(minutes=1))
    def decide(result: dict[str, Any]) -> bool:
        print(f"decision: {result['decision']['action']} ({result['decision']['reason']})")
        return result["decision"]["action"] == "retrain" and not project.is_backfill(get_current_context())

    # Repeated windows request one retraining only, so the requests are kept in the store of the asset. Its events
    # would do as well, but Airflow cannot list them while a retraining is queued (3.3.2, apache/airflow#71360).
    @task(outlets=[DRIFT_CONFIRMED], execution_timeout=timedelta(minutes=1))
    def drift_confirmed(result: dict[str, Any]) -> Iterator[Metadata]:
        context = get_current_context()
        requests = context["asset_state_store"][DRIFT_CONFIRMED]
        yield Metadata(DRIFT_CONFIRMED, project.request_retraining(result, requests, context["run_id"]))

    result = report(window())
    alert(result)
    decide(result) >> drift_confirmed(result)


drift_monitoring()
