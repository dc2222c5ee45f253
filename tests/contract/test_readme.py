"""The README is true: its commands, paths, settings and figures exist."""

from __future__ import annotations

import re

import pytest

from pipeline.steps import BY_NAME
from stepkit.paths import ROOT
from tests.tour import plan
from tests.tour.readme import commands, shown

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:40])


def test_first_screen_shows_the_two_commands_and_what_this_is_not() -> None:
    for words in ("make run", "make test", "table", "Python 3.11"):
        assert words in FIRST_SCREEN


def test_table_of_steps_names_every_step_in_order() -> None:
    assert re.findall(r"^\| `(\w+)` \|", FIRST_SCREEN, re.MULTILINE) == list(BY_NAME)


def test_every_named_make_verb_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


def test_every_named_path_exists() -> None:
    table = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8").split("| to change | open |")[1]
    paths = [path for path in re.findall(r"`([\w./*<>-]+/[\w./*<>-]+|\w+\.yaml)`", table) if "<" not in path]
    assert len(paths) > 8
    for path in paths:
        assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("line", re.findall(r"^mlflow run \. .*$", README, re.MULTILINE))
def test_options_of_the_root_commands_are_known(line: str) -> None:
    """Each override in a command of the README names a key of the configuration, or of our plugins of Hydra."""
    files = ("config.yaml", "random_forest/rf_config.yaml", "pipeline/sweep/plugin_settings.py")
    known = "file_url" + "".join((ROOT / name).read_text(encoding="utf-8") for name in files)
    for key in re.findall(r"([\w.]+)=", line.partition("hydra_options=")[2]):
        assert key.split(".")[0] in known
        assert key.rsplit(".", 1)[-1] in known


def test_every_output_that_is_shown_names_the_command_that_it_is_of() -> None:
    typed = [command.text for command in commands()]
    assert len(shown()) > 5
    assert [block.line for block in shown() if not any(one.startswith(block.command or " ") for one in typed)] == []


@pytest.mark.parametrize("text", [*plan.ELSEWHERE, *plan.SERVERS])
def test_the_plan_of_the_tour_is_about_commands_that_are_there(text: str) -> None:
    assert any(plan.means(text, command) or command.text.startswith(text) for command in commands())


def test_figures_of_speed_are_those_that_the_benchmark_wrote() -> None:
    results = "".join((ROOT / "benchmarks" / name).read_text(encoding="utf-8") for name in ("results.md", "serving.md"))
    quoted = re.findall(r"^\|.*\|$", README.split("## Speed")[1].split("\n## ")[0], re.MULTILINE)
    assert len(quoted) == 5
    for line in quoted:
        assert line in results.splitlines()
