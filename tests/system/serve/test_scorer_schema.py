"""Schemathesis tests of the scorer against its OpenAPI document, with valid and invalid bodies and headers.

SCORER_FAULTS=full in the environment makes 10,000 requests of each operation.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.http.pages import openapi
from tests.support.scoring_servers import Server

FEW = 100
REQUESTS = 10_000 if os.environ.get("SCORER_FAULTS") == "full" else FEW
ON_RECORD = ("/feedback", "/explain")
"""Paths that take the id of a scored request."""

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
"""Checks of each response: its status and body are in the document, and it is not a server error."""


@pytest.fixture(scope="module")
def api(running: Server) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json")


OPERATIONS = [
    (path, method, mode)
    for path, methods in openapi.build_document(None)["paths"].items()
    for method in methods
    for mode in GenerationMode
    # A request without a body cannot be invalid.
    if method == "post" or mode is GenerationMode.POSITIVE
]


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS, ids=str)
def test_every_answer_is_one_that_the_document_names(
    api: BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=REQUESTS, deadline=None, database=None, derandomize=REQUESTS == FEW,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(api[path][method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        statuses[answer.status_code] += 1
        if answer.status_code != 200:
            assert answer.json()["field"]
            assert answer.json()["message"]
        if path in ON_RECORD:
            # A valid body names an unknown request, or one that an earlier test sent to /invocations.
            fits = mode is GenerationMode.POSITIVE
            assert answer.status_code in ((200, 404) if fits else (400,)), (case.body, answer.text)

    ask()
    fitting = {404, 200} if path in ON_RECORD else {200}
    assert fitting & statuses.keys() if mode is GenerationMode.POSITIVE else statuses[400], statuses
