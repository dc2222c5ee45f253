"""Help, options and parameters on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.usage import wants_help
from stepkit.paths import ROOT, resolve_path
from stepkit.settings.load import format_make_command
from stepkit.step.flags import make_step_parser
from stepkit.step.with_options import to_flags


def test_help_is_asked_for_in_any_place_and_by_nothing_else() -> None:
    asking = [["--help"], ["-h"], ["--hydra_options", "--help"], ["--hydra_options", "a=1 -h"]]
    not_asking = [[], ["--hydra_options", "a=--help"], ["main.because.reason=no -h"], ["a='"]]
    assert [wants_help(words) for words in asking + not_asking] == [True] * 4 + [False] * 4


def test_help_imports_nothing_heavy_and_shows_every_key() -> None:
    code = "import runpy, sys; sys.argv = ['main.py', '--help']\ntry: runpy.run_path('main.py', run_name='__main__')\n"
    code += "finally: print({'mlflow', 'hydra', 'pandas'} & {*sys.modules}, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.strip()) == (0, "set()")
    assert all(text in ended.stdout for text in ("execute_steps: all", "keep_days", "cap_days", "data=NAME", "uci"))


def test_options_are_split_as_a_shell_does_and_handed_on_one_by_one() -> None:
    options = "port=5001 'log_url=sqlite:///my $5 file.db' model_name=\"Bob's\""
    assert to_flags(options) == ["--port=5001", "--log_url=sqlite:///my $5 file.db", "--model_name=Bob's"]
    assert to_flags(options, only="model_name reference") == ["--model_name=Bob's"]
    with pytest.raises(ValueError, match="quotation"):
        to_flags("a='")


def test_a_value_may_begin_with_a_dash_and_the_next_flag_is_not_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_step_parser("a step", "artifact_description")
    for text in ("-5%", "-", "--x", "- it's -h", "plain", ""):
        assert parser.parse_args(["--step", "s", "--artifact_description", text]).artifact_description == text
    with pytest.raises(SystemExit):
        parser.parse_args(["--artifact_description", "--step", "s"])
    assert "expected one argument" in capsys.readouterr().err


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere/me")
    assert resolve_path("~/clients (1).csv") == "/elsewhere/me/clients (1).csv"
    assert resolve_path("~odd.csv") == str(Path(ROOT) / "~odd.csv")
    assert resolve_path("https://x/~/y.csv") == "https://x/~/y.csv"


def test_a_command_names_the_model_where_it_is_not_the_usual_one() -> None:
    assert format_make_command("models", "credit_default") == "make models"
    assert format_make_command("models", "Bob's loans") == "make models MODEL='Bob'\"'\"'s loans'"
    assert format_make_command("run", "mine") == 'make run options="register.model_name=mine"'
