"""Airflow's REST API: trigger a DAG, follow its runs, see its asset events."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import requests

from loop.polling import wait_for

ENDED = ("success", "failed")


class Scheduler:
    """A running Airflow, as an admin sees it."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address
        answer = requests.post(f"{address}/auth/token", json={"username": user, "password": password}, timeout=30)
        answer.raise_for_status()
        self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def call(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.address}/api/v2/{path}"
        answer = requests.request(method, url, headers=self._headers, timeout=60, **options)
        if not answer.ok:
            raise requests.HTTPError(f"{method} {url}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer.json()

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, params=query)

    def set_paused(self, dag: str, paused: bool) -> None:
        self.call("PATCH", f"dags/{dag}", json={"is_paused": paused})

    def has_dags(self, *dags: str) -> bool:
        return {*dags} <= {one["dag_id"] for one in self.get("dags", exclude_stale=True)["dags"]}

    def trigger(self, dag: str, **params: Any) -> str:
        """Start a run with these parameters; return its id."""
        return str(self.call("POST", f"dags/{dag}/dagRuns", json={"logical_date": None, "conf": params})["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return every run of a DAG, oldest first."""
        runs: list[dict[str, Any]] = self.get(f"dags/{dag}/dagRuns", order_by="run_after")["dag_runs"]
        return runs

    def get_state(self, dag: str, run: str) -> str:
        return str(self.get(f"dags/{dag}/dagRuns/{run}")["state"])

    def get_task_states(self, dag: str, run: str) -> dict[str, str | None]:
        """Return the state of each task of a run."""
        tasks = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def get_value(self, dag: str, run: str, task: str) -> Any:
        """Return the value that a task returned."""
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        return self.get(path, deserialize=True)["value"]

    def wait_for_end(self, dag: str, run: str) -> str:
        """Wait for the end of a run; return its state."""
        wait_for(lambda: self.get_state(dag, run) in ENDED, f"the end of {dag} {run}")
        return self.get_state(dag, run)

    def list_asset_events(self) -> list[dict[str, Any]]:
        """Return every asset event, oldest first.

        Airflow answers 500 as long as a run that an event made has not begun (3.3.2, apache/airflow#71360), which
        is waited for.
        """
        events: list[dict[str, Any]] = []

        def are_shown() -> bool:
            try:
                events[:] = self.get("assets/events", order_by="timestamp")["asset_events"]
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code != HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                return False
            return True

        wait_for(are_shown, "the asset events")
        return events
