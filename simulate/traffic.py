"""traffic: a number of rows, a seed and a named drift -> requests to a running scorer, and their labels as feedback."""

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

log = logging.getLogger("traffic")

KEY_VARIABLE = "SCORER_API_KEY"
CONNECTIONS = 4
TIMEOUT_SECONDS = 60.0
NOT_SENT = ("ID", TARGET)
MOST_SHOWN_CHARACTERS = 300


class TrafficFailed(Exception):
    """The scorer does not answer, or refuses; the text says what it said."""


@dataclass(frozen=True)
class Sent:
    """How many rows and labels were sent, and the model versions that answered."""

    rows: int
    labels: int
    versions: list[str]


def send_traffic(url: str, table: pd.DataFrame, batch: int, labels: bool) -> Sent:
    """Send the clients of `table` (n x 25) to the scorer at `url`, `batch` rows a request, then their labels.

    Raises:
        TrafficFailed: there is no scorer at `url`, or it refuses.
    """
    with requests.Session() as session, ThreadPoolExecutor(CONNECTIONS) as pool:
        session.mount(url, HTTPAdapter(pool_maxsize=CONNECTIONS))
        if key := os.environ.get(KEY_VARIABLE):
            session.headers["X-API-Key"] = key

        def post_all(path: str, bodies: Iterable[dict[str, Any]]) -> list[requests.Response]:
            return list(pool.map(lambda body: _post(session, f"{url}/{path}", body), bodies))

        parts = [table.iloc[first : first + batch] for first in range(0, len(table), batch)]
        answers = post_all("invocations", map(_build_request, parts))
        feedback = (
            [label for pair in zip(parts, answers, strict=True) for label in _build_labels(*pair)] if labels else []
        )
        post_all("feedback", feedback)
    return Sent(len(table), len(feedback), sorted({answer.headers["X-Model-Version"] for answer in answers}))


def _build_request(part: pd.DataFrame) -> dict[str, Any]:
    inputs = part.drop(columns=list(NOT_SENT))
    values = [[None if value != value else value for value in row] for row in inputs.to_numpy().tolist()]
    return {"dataframe_split": {"columns": list(inputs), "data": values}}


def _build_labels(part: pd.DataFrame, answer: requests.Response) -> list[dict[str, Any]]:
    request_id = answer.headers["X-Request-Id"]
    return [{"request_id": request_id, "row": row, "label": int(label)} for row, label in enumerate(part[TARGET])]


def _post(session: requests.Session, url: str, body: dict[str, Any]) -> requests.Response:
    try:
        answer = session.post(url, json=body, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        raise TrafficFailed(f"no scorer answers at {url} ({type(error).__name__}). Start one: make serve") from error
    if not answer.ok:
        raise TrafficFailed(f"{url} answered {answer.status_code}: {answer.text[:MOST_SHOWN_CHARACTERS]}")
    return answer


def parse_flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def make_parser() -> argparse.ArgumentParser:
    flags = OneLineParser(prog="traffic", description=__doc__)
    flags.add_argument("--url", required=True, help="the scorer, e.g. http://127.0.0.1:5000")
    flags.add_argument("--rows", type=parse_row_count, default=2000, help="number of clients")
    flags.add_argument("--drift", choices=list(DRIFTS), default="none", help="what changed")
    flags.add_argument("--seed", type=parse_seed, default=1, help="the same seed gives the same clients")
    flags.add_argument("--batch", type=parse_row_count, default=100, help="rows a request")
    flags.add_argument(
        "--labels", type=parse_flag, default=True, help="true: send the true labels as feedback; or false"
    )
    return flags


def main(argv: list[str] | None = None) -> None:
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
        "sent %s rows (drift: %s) and %s labels; answered by version %s", sent.rows, args.drift, sent.labels, versions
    )
    log_to_run({"rows": sent.rows, "labels": sent.labels}, drift=args.drift, model_versions=versions)


if __name__ == "__main__":
    main()
