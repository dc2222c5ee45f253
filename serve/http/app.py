"""The ASGI application: MLflow's scoring protocol, and around it the record, the metrics, feedback and the docs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial

import mlflow
import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from prediction_log.engine import format_url
from prediction_log.writer import LogUnavailable, LogUnfit, Prediction, PredictionLog, RequestIdTaken
from serve.http import metrics, openapi
from serve.http.event_log import log_event
from serve.http.feedback import parse_label, record_label
from serve.http.middleware import Guard
from serve.http.model_follower import Follower
from serve.http.refusals import make_refusal
from serve.http.request_body import TYPES, parse_fast, parse_with_mlflow
from serve.http.request_context import JSON, SMALL_BODY, Call, get_call, parse_media_type, read_body
from serve.http.shadow import Shadow
from serve.http.shutdown import SUPERVISOR_VARIABLE, is_orphaned_worker, stop_with_parent
from serve.model.microbatch import Batcher
from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable
from serve.run import print_welcome
from serve.settings import ServeSettings, load_handed_over_settings, read_api_key
from stepkit.processes import interrupted

FEW_ROWS = 200

SECONDS_BETWEEN_GAUGES = 1.0
# more large requests at a time would mostly take Python's interpreter lock from each other
LARGE_AT_ONCE = 1 + (os.cpu_count() or 1)
# how long a thread may hold the interpreter lock: the event loop waits for the log's thread after each call of ONNX
# Runtime, and with Python's own 0.005 a third fewer requests are answered
SECONDS_TO_YIELD = 0.0005


@dataclass(frozen=True)
class ScoredRequest:
    """What came of one request: its rows, their scores, what goes on record, and the body of the answer."""

    rows: Rows
    scores: Scores
    predictions: list[Prediction]
    text: str


class Scorer:
    """The endpoints, and what they share: the followed models, the record, the shadow."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.follower = Follower(settings)
        self.batcher = Batcher()
        self.large = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="large")
        self.log_trouble = ""
        self.log = PredictionLog.open(
            settings.log_url, settings.log, must_answer=False, on_commit=metrics.commit_seconds.observe
        )
        self.shadow = Shadow(lambda: self.follower.shadow, self.log, settings.shadow_queue)

    @asynccontextmanager
    async def lifespan(self, _: ASGIApp) -> AsyncIterator[None]:
        self.follower.start()
        self.shadow.start()
        if SUPERVISOR_VARIABLE in os.environ:  # other workers may serve: this one takes no request before it can answer
            await asyncio.to_thread(self.follower.wait_for_model)
        gauges = asyncio.create_task(self._update_gauges())
        log_event("started", pid=os.getpid(), log=format_url(self.log.engine.url))
        yield
        gauges.cancel()
        await asyncio.to_thread(self._close)
        log_event("stopped", pid=os.getpid(), committed=self.log.get_stats().committed)

    def _close(self) -> None:
        self.follower.stop()
        self.large.shutdown()
        self.shadow.stop(self.settings.stop_seconds)
        self.log.close(self.settings.stop_seconds)
        if is_orphaned_worker():
            metrics.remove_folder()

    async def _update_gauges(self) -> None:
        while True:
            stats = self.log.get_stats()
            metrics.log_waiting.set(stats.queued)
            metrics.log_lag.set(stats.lag_seconds)
            metrics.log_not_kept.set(stats.not_kept)
            await asyncio.sleep(SECONDS_BETWEEN_GAUGES)

    async def invocations(self, request: Request) -> Response:
        """Score a table; the answer is sent once it is on record."""
        call = get_call(request)
        if call.model is None:
            raise make_refusal("NO_MODEL", reason=self.follower.waiting_for)
        body = await read_body(request, self.settings.max_body_bytes)
        kind = parse_media_type(request.headers.get("content-type"), TYPES)
        answer = await self._score_body(body, kind, call.model, call)
        call.rows = answer.rows.count
        await self._record(answer.predictions, call.fresh)
        self.shadow.offer(answer.rows, answer.predictions)
        metrics.rows.labels(call.version, "champion").inc(call.rows)
        metrics.observe_scores(call.version, answer.scores.probability)
        return Response(answer.text, media_type=JSON)

    async def _score_body(self, body: bytes, kind: str, model: Servable, call: Call) -> ScoredRequest:
        # a small body is read and scored at once (under a millisecond); a larger one holds up no other request
        in_a_thread = partial(asyncio.get_running_loop().run_in_executor, self.large)
        if len(body) <= SMALL_BODY and (rows := parse_fast(body, kind, model)):
            scores = await self.batcher.score(rows, model)
            if rows.count <= FEW_ROWS:
                return self._build_scored_request(rows, scores, model, call)
            return await in_a_thread(self._build_scored_request, rows, scores, model, call)
        return await in_a_thread(self._read_and_score, body, kind, model, call)

    def _read_and_score(self, body: bytes, kind: str, model: Servable, call: Call) -> ScoredRequest:
        rows = parse_fast(body, kind, model) or parse_with_mlflow(body, kind, model)
        return self._build_scored_request(rows, model.score(rows), model, call)

    def _build_scored_request(self, rows: Rows, scores: Scores, model: Servable, call: Call) -> ScoredRequest:
        now, ms = datetime.now(UTC), call.milliseconds
        features = rows.to_json(self.log.redacted)
        predictions = [
            Prediction(call.request_id, row, now, model.name, model.version, False, raw, probability, predicted, ms)
            for row, (raw, probability, predicted) in enumerate(
                zip(features, scores.probability, scores.predicted, strict=True)
            )
        ]
        return ScoredRequest(rows, scores, predictions, format_predictions(scores))

    async def _record(self, answered: list[Prediction], fresh: bool) -> None:
        """Wait until the predictions are committed; without a log, do what `when_unavailable` says."""
        if not answered:
            return
        try:
            # a request that runs out of time must not take its rows back from a commit that others share
            await asyncio.shield(asyncio.wrap_future(self.log.submit(answered, fresh=fresh)))
            self._set_log_trouble("")
            return
        except RequestIdTaken as error:
            raise make_refusal("REQUEST_ID_TAKEN", reason=error) from error
        except (LogUnavailable, LogUnfit) as error:
            self._set_log_trouble(str(error))
            refused = make_refusal("LOG_UNAVAILABLE")
        except ValueError as error:  # this request's own values: nothing is wrong with the log
            refused = make_refusal("NOT_RECORDABLE", reason=error)
        if self.settings.when_unavailable == "refuse":
            raise refused
        metrics.unrecorded.inc()

    def _set_log_trouble(self, trouble: str) -> None:
        """Remember what is wrong with the log for /health, and log when it begins and when it ends."""
        if bool(trouble) != bool(self.log_trouble):
            log_event("log_gone" if trouble else "log_back", error=trouble)
        self.log_trouble = trouble

    async def feedback(self, request: Request) -> Response:
        """Take the true label of a row that was answered."""
        body = await read_body(request, self.settings.max_body_bytes)
        parse_media_type(request.headers.get("content-type"), [JSON])
        try:
            answer = await asyncio.to_thread(record_label, self.log, parse_label(body))
        except (LogUnavailable, LogUnfit) as error:
            raise make_refusal("LOG_UNAVAILABLE") from error
        return Response(orjson.dumps(answer), media_type=JSON)

    async def ping(self, _: Request) -> Response:
        """MLflow's sign of life: an empty line once there is a model."""
        return Response("\n", 200 if self.follower.champion else 503, media_type=JSON)

    async def health(self, _: Request) -> Response:
        """What is served, what was refused and why, whether registry and log answer."""
        state = self.follower.describe()
        served = state["model"] is not None
        log = {"trouble": self.log_trouble, **asdict(self.log.get_stats())}
        shown = {"status": "ok" if served else "waiting", **state, "log": log}
        return Response(orjson.dumps(shown), 200 if served else 503, media_type=JSON)

    async def version(self, _: Request) -> Response:
        """MLflow's version, as its own server answers it."""
        return Response(mlflow.__version__, media_type=JSON)

    async def metrics(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(metrics.format_metrics), media_type=metrics.CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        return Response(orjson.dumps(openapi.build_document(self.follower.champion)), media_type=JSON)

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(openapi.render_page(self.follower.champion))

    def list_routes(self) -> list[Route]:
        return [
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/ping", self.ping),
            Route("/health", self.health),
            Route("/version", self.version),
            Route("/metrics", self.metrics),
            Route("/feedback", self.feedback, methods=["POST"]),
            Route("/openapi.json", self.openapi),
            Route("/docs", self.docs),
        ]


def format_predictions(scores: Scores) -> str:
    """Return the answer byte for byte as MLflow's server writes it."""
    answers = zip(scores.probability, scores.predicted, strict=True)
    shown = ", ".join(f'{{"probability": {probability!r}, "class": {predicted}}}' for probability, predicted in answers)
    return f'{{"predictions": [{shown}]}}'


async def raise_not_found(*_: object) -> None:
    raise make_refusal("NOT_FOUND")


def create_app() -> ASGIApp:
    """Return the application for the settings that run.py handed over."""
    sys.setswitchinterval(SECONDS_TO_YIELD)
    # it would print a line for each request with a column too many
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    if supervisor := os.environ.get(SUPERVISOR_VARIABLE):
        stop_with_parent(int(supervisor))
    if interrupted.is_set():  # in the moment before uvicorn took the signals
        os.kill(os.getpid(), signal.SIGTERM)
    settings = load_handed_over_settings()
    scorer = Scorer(settings)
    if SUPERVISOR_VARIABLE not in os.environ:
        print_welcome(settings)
    router = Router(scorer.list_routes(), default=raise_not_found, lifespan=scorer.lifespan, redirect_slashes=False)
    return Guard(router, settings, read_api_key(), lambda: scorer.follower.champion)
