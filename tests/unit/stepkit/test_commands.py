"""A printed command works when it is pasted, whatever a path or a name contains."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.config import split_options
from stepkit.commands import hydra_value, pipeline_command

PARSER = OverridesParser.create()
PATHS = [
    "plain",
    "/data/clients (1).csv",
    "größe.csv",
    "~/none.csv",
    "inf",
    "1e5",
    "2019",
    "null",
    "it's",
    'a"b',
    "C:\\new\\",
    "${HOME}",
    "\\${x}",
    "$5 `x` !",
    "a,b",
    "[x]",
    "{a: b}",
    "a=b#c",
    "  two  blanks ",
    "two\nlines",
    "",
]


def read_back(text: str) -> object:
    override = PARSER.parse_override(f"key={text}")
    assert not override.is_sweep_override()
    return OmegaConf.create({"key": override.value()}).key


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=20) | st.text(alphabet="\\'${}a \"", max_size=12))
@example("\\'")
@example("x${y}\\")
def test_hydra_reads_any_text_back(text: str) -> None:
    assert read_back(hydra_value(text)) == text


@pytest.mark.parametrize("path", PATHS)
def test_a_pasted_command_hands_any_path_to_the_pipeline(path: str) -> None:
    *_, word = shlex.split(pipeline_command({"data": "plain", "data.file_url": path}))
    data, file_url = split_options(["--hydra_options", word.removeprefix("hydra_options=")])
    assert data == "data=plain"
    assert read_back(file_url.removeprefix("data.file_url=")) == path


def test_plain_names_need_no_quotes() -> None:
    assert pipeline_command({"data": "uci"}) == 'mlflow run . --env-manager local -P hydra_options="data=uci"'
