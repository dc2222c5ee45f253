"""Client of Airflow's REST API: triggers DAGs, reads their runs and asset events."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import requests

from loop.polling import wait_for

ENDED = ("success", "failed")


class Scheduler:
    """A running Airflow, as an admin."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        response = requests.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=30)
        response.raise_for_status()
        self._headers = {"Authorization": f"Bearer {response.json()['access_token']}"}

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request; return the JSON of the response, or raise HTTPError."""
        url = f"{self.url}/api/v2/{path}"
        response = requests.request(method, url, headers=self._headers, timeout=60, **options)
        if not response.ok:
            raise requests.HTTPError(f"{method} {url}: {response.status_code} {response.text[:500]}", response=response)
        return response.json()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path of the API."""
        return self.call("GET", path, params=query)

    def set_paused(self, dag: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"dags/{dag}", json={"is_paused": paused})

    def has_dags(self, *dags: str) -> bool:
        """Return True if Airflow has read all of these DAGs."""
        return {*dags} <= {dag["dag_id"] for dag in self.get("dags", exclude_stale=True)["dags"]}

    def trigger(self, dag: str, **params: Any) -> str:
        """Start a run with these parameters; return its ID."""
        return str(self.call("POST", f"dags/{dag}/dagRuns", json={"logical_date": None, "conf": params})["dag_run_id"])

    def list_runs(self, dag: str) -> list[dict[str, Any]]:
        """Return every run of a DAG, oldest first."""
        runs: list[dict[str, Any]] = self.get(f"dags/{dag}/dagRuns", order_by="run_after")["dag_runs"]
        return runs

    def get_state(self, dag: str, run: str) -> str:
        """Return the state of a run."""
        return str(self.get(f"dags/{dag}/dagRuns/{run}")["state"])

    def get_task_states(self, dag: str, run: str) -> dict[str, str | None]:
        """Return the state of each task of a run."""
        tasks = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def get_value(self, dag: str, run: str, task: str) -> Any:
        """Return the result of a task."""
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        return self.get(path, deserialize=True)["value"]

    def wait_for_end(self, dag: str, run: str) -> str:
        """Wait until a run ends; return its state."""
        wait_for(lambda: self.get_state(dag, run) in ENDED, f"end of {dag} {run}")
        return self.get_state(dag, run)

    def list_asset_events(self) -> list[dict[str, Any]]:
        """Return every asset event, oldest first.

        Airflow responds with 500 until the run that an event triggered has begun (3.3.2, apache/airflow#71360), so
        retry until then.
        """
        events: list[dict[str, Any]] = []

        def are_available() -> bool:
            try:
                events[:] = self.get("assets/events", order_by="timestamp")["asset_events"]
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code != HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                return False
            return True

        wait_for(are_available, "list of asset events")
        return events
