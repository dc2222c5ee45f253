"""ASGI application: MLflow's scoring protocol, with a prediction log, metrics, feedback and a docs page."""

from __future__ import annotations

import asyncio
import json
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
from typing import Any

import mlflow
import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from prediction_log.engine import format_url
from prediction_log.writer import LogUnavailable, LogUnfit, Prediction, PredictionLog, RequestIdTaken
from serve.http import metrics
from serve.http.event_log import log_event
from serve.http.explain import AnswerExplainer
from serve.http.feedback import parse_label, record_label
from serve.http.middleware import FORM_PATH, TRY_PATH, Guard
from serve.http.model_follower import Follower
from serve.http.pages import openapi, try_page
from serve.http.refusals import make_refusal
from serve.http.request_body import TYPES, ScoringRequest, parse_fast, parse_with_mlflow
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
FEW_ROWS_WITH_REASONS = 2  # the reasons of a row take about a millisecond

SECONDS_BETWEEN_GAUGES = 1.0
# More large requests at the same time would mostly compete for Python's interpreter lock.
LARGE_AT_ONCE = 1 + (os.cpu_count() or 1)
# Longest time that a thread holds the interpreter lock while others wait. After each call of ONNX Runtime the event
# loop waits for the log's thread: Python's default of 0.005 s costs a third of the throughput.
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class ScoredRequest:
    """Result of one request: its rows, their scores, the predictions to log, and the body of the response."""

    rows: Rows
    scores: Scores
    predictions: list[Prediction]
    body: str


class Scorer:
    """Endpoints and the objects they share: the model follower, the prediction log, the shadow model."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.follower = Follower(settings)
        self.batcher = Batcher()
        self.large = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="large")
        self.log_trouble = ""
        self.log = PredictionLog.open(
            settings.log_url, settings.log, must_answer=False, on_commit=metrics.commit_seconds.observe
        )
        self.explainer = AnswerExplainer(self.log)
        self.shadow = Shadow(lambda: self.follower.shadow, self.log, settings.shadow_queue)

    @asynccontextmanager
    async def lifespan(self, _: ASGIApp) -> AsyncIterator[None]:
        """Start the threads before the first request, and stop them after the last one."""
        self.follower.start()
        self.shadow.start()
        if SUPERVISOR_VARIABLE in os.environ:
            # Other workers may already serve, so this one accepts requests only once it has a model.
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

    async def post_invocations(self, request: Request) -> Response:
        """Score a table; respond once its predictions are committed to the log."""
        call = get_call(request)
        if call.model is None:
            raise make_refusal("NO_MODEL", reason=self.follower.waiting_for)
        body = await read_body(request, self.settings.max_body_bytes)
        kind = parse_media_type(request.headers.get("content-type"), TYPES)
        scored = await self._score_body(body, kind, call.model, call)
        call.rows = scored.rows.count
        await self._record(scored.predictions, call.is_new_id)
        self.shadow.offer(scored.rows, scored.predictions)
        metrics.rows.labels(call.version, "champion").inc(call.rows)
        metrics.observe_scores(call.version, scored.scores.probability)
        return Response(scored.body, media_type=JSON)

    async def _score_body(self, body: bytes, kind: str, model: Servable, call: Call) -> ScoredRequest:
        # A small body is read and scored in the event loop, in under a millisecond. A large one goes to a thread, so
        # that it does not delay other requests.
        run_in_thread = partial(asyncio.get_running_loop().run_in_executor, self.large)
        if len(body) <= SMALL_BODY and (request := parse_fast(body, kind, model)):
            scores = await self.batcher.score(request.rows, model)
            if request.rows.count <= (FEW_ROWS_WITH_REASONS if request.reasons else FEW_ROWS):
                return self._build_scored_request(request, scores, model, call)
            return await run_in_thread(self._build_scored_request, request, scores, model, call)
        return await run_in_thread(self._read_and_score, body, kind, model, call)

    def _read_and_score(self, body: bytes, kind: str, model: Servable, call: Call) -> ScoredRequest:
        request = parse_fast(body, kind, model) or parse_with_mlflow(body, kind, model)
        return self._build_scored_request(request, model.score(request.rows), model, call)

    def _build_scored_request(
        self, request: ScoringRequest, scores: Scores, model: Servable, call: Call
    ) -> ScoredRequest:
        rows = request.rows
        explanations = model.explain(rows, scores, request.reasons) if request.reasons else None
        now, latency = datetime.now(UTC), call.milliseconds
        features = rows.to_json(self.log.redacted)
        predictions = [
            Prediction(
                call.request_id, row, now, model.name, model.version, False, raw, probability, predicted, latency
            )
            for row, (raw, probability, predicted) in enumerate(
                zip(features, scores.probability, scores.predicted, strict=True)
            )
        ]
        return ScoredRequest(rows, scores, predictions, format_predictions(scores, explanations))

    async def _record(self, predictions: list[Prediction], is_new_id: bool) -> None:
        """Wait until the predictions are committed; without a usable log, apply `when_unavailable`."""
        if not predictions:
            return
        try:
            # The commit is shared: a request that times out must not withdraw its rows from it.
            await asyncio.shield(asyncio.wrap_future(self.log.submit(predictions, fresh=is_new_id)))
            self._set_log_trouble("")
            return
        except RequestIdTaken as error:
            raise make_refusal("REQUEST_ID_TAKEN") from error
        except (LogUnavailable, LogUnfit) as error:
            self._set_log_trouble(str(error))
            refusal = make_refusal("LOG_UNAVAILABLE")
        except ValueError as error:  # the log works, but cannot store the values of this request
            refusal = make_refusal("NOT_RECORDABLE", reason=error)
        if self.settings.when_unavailable == "refuse":
            raise refusal
        metrics.unrecorded.inc()

    def _set_log_trouble(self, trouble: str) -> None:
        """Keep the log's error for /health ("": none), and log an event when it starts and when it ends."""
        if bool(trouble) != bool(self.log_trouble):
            log_event("log_gone" if trouble else "log_back", error=trouble)
        self.log_trouble = trouble

    async def post_feedback(self, request: Request) -> Response:
        """Record the true label of a scored row."""
        body = await read_body(request, self.settings.max_body_bytes)
        parse_media_type(request.headers.get("content-type"), [JSON])
        try:
            result = await asyncio.to_thread(record_label, self.log, parse_label(body))
        except (LogUnavailable, LogUnfit) as error:
            raise make_refusal("LOG_UNAVAILABLE") from error
        return Response(orjson.dumps(result), media_type=JSON)

    async def post_explain(self, request: Request) -> Response:
        """Respond with the reasons of an answer on record."""
        body = await read_body(request, self.settings.max_body_bytes)
        parse_media_type(request.headers.get("content-type"), [JSON])
        return Response(await self.explainer.explain(body, get_call(request).model), media_type=JSON)

    async def get_ping(self, _: Request) -> Response:
        """Respond with MLflow's health check: an empty line once a model is loaded, else 503."""
        return Response("\n", 200 if self.follower.champion else 503, media_type=JSON)

    async def get_health(self, _: Request) -> Response:
        """Respond with the served and refused versions and the state of registry and log; 503 without a model."""
        state = self.follower.describe()
        has_model = state["model"] is not None
        log = {"trouble": self.log_trouble, **asdict(self.log.get_stats())}
        health = {"status": "ok" if has_model else "waiting", **state, "log": log}
        return Response(orjson.dumps(health), 200 if has_model else 503, media_type=JSON)

    async def get_version(self, _: Request) -> Response:
        """Respond with MLflow's version, as MLflow's own server does, and the model's calibration in a header."""
        model = self.follower.champion
        headers = {"X-Model-Calibration": model.calibration} if model else {}
        return Response(mlflow.__version__, headers=headers, media_type=JSON)

    async def get_metrics(self, _: Request) -> Response:
        """Respond with all metrics in Prometheus' text format."""
        return Response(await asyncio.to_thread(metrics.format_metrics), media_type=metrics.CONTENT_TYPE)

    async def get_openapi(self, _: Request) -> Response:
        """Respond with the OpenAPI document."""
        return Response(orjson.dumps(openapi.build_document(self.follower.champion)), media_type=JSON)

    async def get_docs(self, _: Request) -> Response:
        """Respond with the docs page."""
        return HTMLResponse(openapi.render_page(self.follower.champion))

    async def get_try(self, _: Request) -> Response:
        """Respond with the page for people. It is the same for every model, because it needs no API key."""
        return HTMLResponse(try_page.PAGE, headers=try_page.HEADERS)

    async def get_try_form(self, request: Request) -> Response:
        """Respond with the columns of the served version, from which the page for people makes its form."""
        model = get_call(request).model
        if model is None:
            raise make_refusal("NO_MODEL", reason=self.follower.waiting_for)
        headers = {"Cache-Control": "no-store"}
        return Response(orjson.dumps(try_page.build_form(model)), headers=headers, media_type=JSON)

    def list_routes(self) -> list[Route]:
        """Return the routes of all endpoints."""
        return [
            Route("/invocations", self.post_invocations, methods=["POST"]),
            Route("/ping", self.get_ping),
            Route("/health", self.get_health),
            Route("/version", self.get_version),
            Route("/metrics", self.get_metrics),
            Route("/feedback", self.post_feedback, methods=["POST"]),
            Route("/explain", self.post_explain, methods=["POST"]),
            Route("/openapi.json", self.get_openapi),
            Route("/docs", self.get_docs),
            Route(TRY_PATH, self.get_try),
            Route(FORM_PATH, self.get_try_form),
        ]


def format_predictions(scores: Scores, explanations: list[dict[str, Any]] | None = None) -> str:
    """Return the body of the response, byte for byte as MLflow's server writes it."""
    pairs = zip(scores.probability, scores.predicted, strict=True)
    rows = [f'{{"probability": {probability!r}, "class": {predicted}}}' for probability, predicted in pairs]
    if explanations:
        texts = map(json.dumps, explanations)
        rows = [f"{row[:-1]}, {text[1:]}" for row, text in zip(rows, texts, strict=True)]
    return f'{{"predictions": [{", ".join(rows)}]}}'


async def raise_not_found(*_: object) -> None:
    """Refuse a request to an unknown path."""
    raise make_refusal("NOT_FOUND")


def create_app() -> ASGIApp:
    """Return the application for the settings that run.py passed on."""
    sys.setswitchinterval(SWITCH_SECONDS)
    # MLflow would print a line for each request with an unknown column.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    if supervisor := os.environ.get(SUPERVISOR_VARIABLE):
        stop_with_parent(int(supervisor))
    if interrupted.is_set():  # the signal came before uvicorn installed its own handlers
        os.kill(os.getpid(), signal.SIGTERM)
    settings = load_handed_over_settings()
    scorer = Scorer(settings)
    if SUPERVISOR_VARIABLE not in os.environ:
        print_welcome(settings)
    router = Router(scorer.list_routes(), default=raise_not_found, lifespan=scorer.lifespan, redirect_slashes=False)
    return Guard(router, settings, read_api_key(), lambda: scorer.follower.champion)
