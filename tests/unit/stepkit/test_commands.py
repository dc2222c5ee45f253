"""Texts for other programs: printed commands, flags and JSON."""

from __future__ import annotations

import argparse
import json
import math
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.config import split_options
from stepkit.commands import format_pipeline_command, quote_for_hydra
from stepkit.step.flags import make_step_parser, parse_share
from stepkit.strict_json import to_json

PARSER = OverridesParser.create()
PATHS = ["plain", "/data/clients (1).csv", "größe.csv", "~/none.csv", "inf", "1e5", "2019", "null", "it's", 'a"b']
PATHS += [
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
    assert read_back(quote_for_hydra(text)) == text


@pytest.mark.parametrize("path", PATHS)
def test_a_pasted_command_hands_any_path_to_the_pipeline(path: str) -> None:
    *_, word = shlex.split(format_pipeline_command({"data": "plain", "data.file_url": path}))
    data, file_url = split_options(["--hydra_options", word.removeprefix("hydra_options=")])
    assert data == "data=plain"
    assert read_back(file_url.removeprefix("data.file_url=")) == path


def test_plain_names_need_no_quotes() -> None:
    assert format_pipeline_command({"data": "uci"}) == 'mlflow run . --env-manager local -P hydra_options="data=uci"'


def test_a_share_between_0_and_1_is_accepted() -> None:
    assert parse_share("0.3") == 0.3
    assert parse_share("1e-3") == 0.001


@pytest.mark.parametrize("text", ["0", "1", "1.5", "-0.1", "nan", "inf"])
def test_a_share_outside_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rf"{text} must be above 0 and below 1"):
        parse_share(text)


@pytest.mark.parametrize("text", ["", "third", "0,3"])
def test_a_share_that_is_not_a_number_is_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a number"):
        parse_share(text)


def test_a_step_takes_the_flags_that_it_names_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    args = make_step_parser("a step", "input_run_id", "random_seed").parse_args(["--step", "s", "--random_seed", "7"])
    assert vars(args) == {"step": "s", "input_run_id": "", "random_seed": 7}
    with pytest.raises(SystemExit):
        make_step_parser("a step").parse_args(["--step", "s", "--random_seed", "7"])
    assert "unrecognized arguments: --random_seed 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("--randm_seed", "did you mean --random_seed?"),
        ("--random", "did you mean --random_seed?"),
        ("--something_else", "known flags: --random_seed, --step"),
    ],
)
def test_a_mistyped_flag_is_answered_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str], typed: str, answer: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        make_step_parser("a step", "random_seed").parse_args(["--step", "s", typed, "7"])
    assert stopped.value.code == 2
    assert f"unrecognized arguments: {typed} 7; {answer}" in capsys.readouterr().err


def test_a_step_needs_the_flag_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_step_parser("a step").parse_args([])
    assert "--step" in capsys.readouterr().err


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_numbers_that_are_not_finite_become_null_at_any_depth() -> None:
    value = {"mean": math.inf, "columns": [{"score": math.nan, "rows": 3}, (1.5, -math.inf)], "name": "NaN"}
    assert json.loads(to_json(value), parse_constant=refuse) == {
        "mean": None,
        "columns": [{"score": None, "rows": 3}, [1.5, None]],
        "name": "NaN",
    }
