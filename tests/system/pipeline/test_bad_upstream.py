"""Steps that are run before their input exists."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from mlflow.entities import Run

from pipeline.steps import select_steps


@pytest.mark.parametrize(
    ("step", "upstream"),
    [
        ("preprocess", "download"),
        ("check_data", "preprocess"),
        ("segregate", "preprocess"),
        ("random_forest", "segregate"),
        ("evaluate", "segregate"),
        ("register", "evaluate"),
    ],
)
def test_step_in_an_empty_experiment_names_the_command_that_makes_its_input(
    refuse: Callable[..., Run], step: str, upstream: str
) -> None:
    run = refuse(step, "UpstreamMissing", "no finished", "Run that step first", first=True)
    (named,) = re.findall(r"main\.execute_steps=(\w+)", run.data.tags["error"])
    assert [selected.name for selected in select_steps([named], "random_forest")] == [upstream]
