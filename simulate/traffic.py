"""Send simulated clients with a named drift to a running scorer, then their true labels as feedback."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pandas as pd
import requests
from requests.adapters import HTTPAdapter

from simulate.drifts import DRIFTS, simulate_traffic
from simulate.figures import TARGET
from simulate.run import OneLineParser, parse_row_count, parse_seed
from stepkit.step.project_run import log_to_run
from stepkit.words import pluralize

log = logging.getLogger("traffic")

KEY_VARIABLE = "SCORER_API_KEY"
CONNECTIONS = 4
TIMEOUT_SECONDS = 60.0
NOT_SENT = ("ID", TARGET)
LONGEST_SHOWN_BODY = 300


class TrafficFailed(Exception):
    """The scorer does not respond or refuses a request."""


@dataclass(frozen=True)
class Sent:
    """Number of rows and labels sent, and the model versions of the responses."""

    rows: int
    labels: int
    versions: list[str]


def send_traffic(url: str, table: pd.DataFrame, batch: int, labels: bool) -> Sent:
    """Send the clients of `table` (n x 25) to the scorer at `url`, `batch` rows a request, then their labels.

    Raises:
        TrafficFailed: no scorer responds at `url`, or it refuses a request.
    """
    with requests.Session() as session, ThreadPoolExecutor(CONNECTIONS) as pool:
        session.mount(url, HTTPAdapter(pool_maxsize=CONNECTIONS))
        if key := os.environ.get(KEY_VARIABLE):
            session.headers["X-API-Key"] = key

        def post_all(path: str, bodies: Iterable[dict[str, Any]]) -> list[requests.Response]:
            return list(pool.map(lambda body: _post(session, f"{url}/{path}", body), bodies))

        parts = [table.iloc[first : first + batch] for first in range(0, len(table), batch)]
        responses = post_all("invocations", map(_build_request, parts))
        feedback = (
            [label for pair in zip(parts, responses, strict=True) for label in _build_labels(*pair)] if labels else []
        )
        post_all("feedback", feedback)
    return Sent(len(table), len(feedback), sorted({response.headers["X-Model-Version"] for response in responses}))


def _build_request(part: pd.DataFrame) -> dict[str, Any]:
    inputs = part.drop(columns=list(NOT_SENT))
    values = [[None if value != value else value for value in row] for row in inputs.to_numpy().tolist()]
    return {"dataframe_split": {"columns": list(inputs), "data": values}}


def _build_labels(part: pd.DataFrame, response: requests.Response) -> list[dict[str, Any]]:
    request_id = response.headers["X-Request-Id"]
    return [{"request_id": request_id, "row": row, "label": int(label)} for row, label in enumerate(part[TARGET])]


def _post(session: requests.Session, url: str, body: dict[str, Any]) -> requests.Response:
    try:
        response = session.post(url, json=body, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        raise TrafficFailed(f"{url}: no response ({type(error).__name__}). Start a scorer: make serve") from error
    if not response.ok:
        raise TrafficFailed(f"{url}: status {response.status_code}: {response.text[:LONGEST_SHOWN_BODY]}")
    return response


def parse_flag(text: str) -> bool:
    """Return true or false; raise ArgumentTypeError for any other text."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false (found '{text}')")
    return text.lower() == "true"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    flags = OneLineParser(prog="traffic", description=__doc__)
    flags.add_argument("--url", required=True, help="URL of the scorer, e.g. http://127.0.0.1:5000")
    flags.add_argument("--rows", type=parse_row_count, default=2000, help="number of clients")
    flags.add_argument(
        "--drift", choices=list(DRIFTS), default="none", help="named change of the clients; none: no change"
    )
    flags.add_argument("--seed", type=parse_seed, default=1, help="the same seed gives the same clients")
    flags.add_argument("--batch", type=parse_row_count, default=100, help="rows per request")
    flags.add_argument(
        "--labels", type=parse_flag, default=True, help="true or false: also send the true labels as feedback"
    )
    return flags


def main(argv: list[str] | None = None) -> None:
    """Send the traffic, and log the numbers to the run of `mlflow run`."""
    args = make_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        sent = send_traffic(
            args.url.rstrip("/"), simulate_traffic(args.rows, args.seed, args.drift), args.batch, args.labels
        )
    except TrafficFailed as error:
        sys.exit(f"TrafficFailed: {error}")
    versions = ", ".join(sent.versions)
    log.info(
        "sent %s (drift: %s) and %s; scored by version %s",
        pluralize(sent.rows, "row"),
        args.drift,
        pluralize(sent.labels, "label"),
        versions,
    )
    log_to_run({"rows": sent.rows, "labels": sent.labels}, drift=args.drift, model_versions=versions)


if __name__ == "__main__":
    main()
