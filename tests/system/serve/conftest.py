"""A registered model with two versions and a scorer of it, for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scoring_servers import Server, start_scorer
from tests.support.trained_champion import Champion, register_two_versions


@pytest.fixture(scope="module")
def versions(store: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Champion:
    return register_two_versions(request.module.__name__.rpartition(".")[2], tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(versions: Champion) -> Champion:
    """Registered model with version 1 as champion."""
    versions.promote("1")
    return versions


@pytest.fixture(scope="module")
def running(versions: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Scorer for tests that do not change its model and never cause an internal error."""
    versions.promote("1")
    with start_scorer(tmp_path_factory.mktemp("running"), versions.name) as server:
        yield server
        assert server.score(versions.split()).ok
        assert not server.events("fault")
