"""Panels of the Grafana dashboards, and their queries with expanded macros."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stepkit.paths import ROOT

FOLDER = ROOT / "docker" / "grafana" / "dashboards"
INTERVALS = {"1h": 3600}


@dataclass(frozen=True)
class Query:
    """Query of a panel; `source` is the uid of its data source."""

    dashboard: str
    panel: str
    source: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def queries() -> Iterator[Query]:
    """Yield all queries of all panels, with the default values of the dashboard's variables."""
    for name, dashboard in dashboards().items():
        values = {variable["name"]: variable["current"]["value"] for variable in dashboard["templating"]["list"]}
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                text = target.get("expr") or target["rawSql"]
                for variable, value in values.items():
                    text = text.replace(f"${{{variable}}}", value)
                yield Query(name, panel["title"], target["datasource"]["uid"], text)


def expanded(statement: str, start: int, end: int) -> str:
    """Replace the macros of Grafana's PostgreSQL data source for a range of time, in seconds since 1970.

    Supported macros: $__timeFilter, $__timeGroup, $__unixEpochFrom, $__unixEpochTo.
    """
    statement = re.sub(
        r"\$__timeGroup\(([^,]+),\s*'(\w+)'\)",
        lambda match: f"floor(extract(epoch from {match[1]})/{INTERVALS[match[2]]})*{INTERVALS[match[2]]}",
        statement,
    )
    between = rf"\1 BETWEEN to_timestamp({start}) AND to_timestamp({end})"
    statement = re.sub(r"\$__timeFilter\(([^)]+)\)", between, statement)
    return statement.replace("$__unixEpochFrom()", str(start)).replace("$__unixEpochTo()", str(end))
