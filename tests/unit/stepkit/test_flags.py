"""stepkit.step.flags: a share, and the flags that steps have in common."""

from __future__ import annotations

import argparse

import pytest

from stepkit.step.flags import share, step_parser


def test_a_share_between_0_and_1_is_taken() -> None:
    assert share("0.3") == 0.3
    assert share("1e-3") == 0.001


@pytest.mark.parametrize("text", ["0", "1", "1.5", "-0.1", "nan", "inf"])
def test_a_share_outside_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rf"{text} must lie between 0 and 1"):
        share(text)


@pytest.mark.parametrize("text", ["", "third", "0,3"])
def test_a_share_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a number"):
        share(text)


def test_a_step_takes_the_flags_that_it_names_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    args = step_parser("a step", "input_run_id", "random_seed").parse_args(["--step", "s", "--random_seed", "7"])
    assert vars(args) == {"step": "s", "input_run_id": "", "random_seed": 7}
    with pytest.raises(SystemExit):
        step_parser("a step").parse_args(["--step", "s", "--random_seed", "7"])
    assert "unrecognized arguments: --random_seed 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("--randm_seed", "did you mean --random_seed?"),
        ("--random", "did you mean --random_seed?"),
        ("--something_else", "there are --random_seed, --step"),
    ],
)
def test_a_mistyped_flag_is_answered_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str], typed: str, answer: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        step_parser("a step", "random_seed").parse_args(["--step", "s", typed, "7"])
    assert stopped.value.code == 2
    assert f"unrecognized arguments: {typed} 7; {answer}" in capsys.readouterr().err


def test_a_step_must_be_told_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        step_parser("a step").parse_args([])
    assert "--step" in capsys.readouterr().err
