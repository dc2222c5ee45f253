"""POST /explain: reasons of an answer on record, by the served version, or by another one in a child process."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from prediction_log.answers import LARGEST_ROW, Answer
from prediction_log.engine import to_text_with_password
from prediction_log.settings import URL_VARIABLE
from prediction_log.writer import LogUnavailable, LogUnfit, PredictionLog
from serve.audit.explain import REASONS, explain_answer, find_answer, main
from serve.errors import AnswerUnknown, ReasonsUnavailable
from serve.http.feedback import WholeNumber, parse_strict
from serve.http.refusals import Refusal, make_bad_request, make_refusal
from serve.model.servable import Servable
from serve.settings import load_handed_over_settings
from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.processes import end_with_parent
from stepkit.table.columns import Strict

EXPECTED = "Expected keys: request_id (text), row (from 0; may be omitted), reasons (from 0; may be omitted)."

LOG_ERRORS = ("LogUnavailable", "LogUnfit", "LogDamaged")
"""Names of the errors of the log, as a child process prints them."""


class ExplainRequest(Strict):
    """Answer on record, and the number of reasons to return."""

    request_id: str = Field(min_length=1, max_length=200)
    row: WholeNumber = Field(0, ge=0, le=LARGEST_ROW)
    reasons: WholeNumber = Field(REASONS, ge=0, le=LARGEST_ROW)


class AnswerExplainer:
    """Explains answers on record; one version other than the served one is loaded at a time."""

    def __init__(self, log: PredictionLog) -> None:
        self._log = log
        self._one_at_a_time = asyncio.Semaphore(1)

    async def explain(self, body: bytes, champion: Servable | None) -> bytes:
        """Return the JSON of an explained answer.

        Raises:
            Refusal: (400) wrong body or too many reasons, (404) no such answer, (409) the answer cannot be explained,
                (503) the log is unavailable.
        """
        request = parse_strict(ExplainRequest, body, EXPECTED)
        url = to_text_with_password(self._log.engine.url)
        try:
            # With an engine of its own: on SQLite, that of the log would lock out writers while it reads.
            answer = await asyncio.to_thread(find_answer, url, request.request_id, request.row)
        except (LogUnavailable, LogUnfit) as error:
            raise make_refusal("LOG_UNAVAILABLE") from error
        except AnswerUnknown as error:
            raise make_refusal("UNKNOWN_REQUEST", row=request.row) from error
        if champion and (answer.model_name, answer.model_version) == (champion.name, champion.version):
            return orjson.dumps(
                await asyncio.to_thread(_explain_with, champion, answer, request.reasons, self._log.redacted)
            )
        async with self._one_at_a_time:
            return await self._explain_in_child(answer, request.reasons)

    async def _explain_in_child(self, answer: Answer, count: int) -> bytes:
        """Run `explain` in a child process, which ends with this process or with the request."""
        options = {"request_id": answer.request_id, "row": answer.row, "reasons": count}
        flags = [f"--{name}={value}" for name, value in {**options, "format": "json"}.items()]
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "serve.http.explain", str(os.getpid()), *flags),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), URL_VARIABLE: to_text_with_password(self._log.engine.url)},
            start_new_session=True,  # Ctrl-C reaches only this process, which then ends the child
        )
        try:
            output, errors = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
        if child.returncode:
            raise parse_problem(errors.decode(errors="replace"), child.returncode)
        return output.strip()


def _explain_with(model: Servable, answer: Answer, count: int, redacted: frozenset[str]) -> dict[str, Any]:
    try:
        return explain_answer(model, answer, count, redacted)
    except BadParameter as error:
        raise make_bad_request(str(error).removeprefix("--"), "reasons") from error
    except ReasonsUnavailable as error:
        raise make_refusal("NOT_EXPLAINABLE", reason=error) from error


def parse_problem(errors: str, status: int) -> Refusal:
    """Return the refusal for a child process that failed: its last line is `ERROR CLASS: message`."""
    kind, _, problem = errors.strip().rpartition("\n")[2].partition(": ")
    if problem.startswith("--reasons: "):
        return make_bad_request(problem.removeprefix("--"), "reasons")
    if kind in LOG_ERRORS:
        return make_refusal("LOG_UNAVAILABLE")
    return make_refusal("NOT_EXPLAINABLE", reason=problem or kind or f"its version cannot be loaded ({status})")


if __name__ == "__main__":
    end_with_parent(parent_id=int(sys.argv[1]))
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of a scorer load one version at a time, to bound their memory
        main(sys.argv[2:], load_handed_over_settings().log.redact)
