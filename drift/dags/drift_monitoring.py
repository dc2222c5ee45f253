"""
### Is what the model is asked still what it was trained on?

For each window of the prediction log: **window** chooses it; **report** compares it with the training data of the
champion (`mlflow run ./drift`: an MLflow run with Evidently's page) and follows the policy of `config.yaml`; **alert**
tells people, if there is something to tell; **decide** lets through what is to be retrained; and **drift_confirmed**
asks the DAG `retraining` for it, by an asset event.

A window is the run's data interval. *Trigger* takes another one (`window_from` and `window_to`, or the last `rows`) and
other parameters of the report (`options`), for once. A window is reported on once: the same again finds the finished
run, and asks for no second retraining; a run that is cleared in these pages does. A backfill reports on past windows;
it neither alerts nor retrains. Addresses: the connection `drift_alerts`.
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
        "window_from": Param(None, type=["null", "string"], format="date-time", description="begin of the window"),
        "window_to": Param(None, type=["null", "string"], format="date-time", description="end of the window"),
        "rows": Param(None, type=["null", "integer"], minimum=1, description="instead: the last N rows of the log"),
        "options": Param({}, type="object", description="parameters of mlflow run ./drift, as in config.yaml"),
    },
)
def drift_monitoring() -> None:
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
        print(result["decision"]["action"], "because", result["decision"]["reason"])
        return result["decision"]["action"] == "retrain" and not project.is_backfill(get_current_context())

    # a window that is looked at twice asks for one retraining. Airflow keeps with the asset what was asked for: its
    # events could tell too, but are not to be had while a retraining waits for its turn (3.3.2, apache/airflow#71360)
    @task(outlets=[DRIFT_CONFIRMED], execution_timeout=timedelta(minutes=1))
    def drift_confirmed(result: dict[str, Any]) -> Iterator[Metadata]:
        context = get_current_context()
        asked = context["asset_state_store"][DRIFT_CONFIRMED]
        yield Metadata(DRIFT_CONFIRMED, project.request_retraining(result, asked, context["run_id"]))

    result = report(window())
    alert(result)
    decide(result) >> drift_confirmed(result)


drift_monitoring()
