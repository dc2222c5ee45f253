"""The README is true: its commands, paths, settings and figures exist."""

from __future__ import annotations

import re

import pytest

from pipeline.steps import list_steps
from stepkit.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:40])


def test_first_screen_shows_the_two_commands_and_what_this_is_not() -> None:
    for words in ("make run", "make test", "table", "Python 3.11"):
        assert words in FIRST_SCREEN


def test_table_of_steps_names_every_step_in_order() -> None:
    assert re.findall(r"^\| `(\w+)` \|", FIRST_SCREEN, re.MULTILINE) == [
        step.name for step in list_steps("random_forest")
    ]


def test_every_named_path_exists() -> None:
    table = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8").split("| to change | open |")[1]
    paths = [path for path in re.findall(r"`([\w./*<>-]+/[\w./*<>-]+|\w+\.yaml)`", table) if "<" not in path]
    assert len(paths) > 8
    for path in paths:
        assert list(ROOT.glob(path)), path


def test_figures_of_speed_are_those_that_the_benchmark_wrote() -> None:
    results = "".join((ROOT / "benchmarks" / name).read_text(encoding="utf-8") for name in ("results.md", "serving.md"))
    quoted = re.findall(r"^\|.*\|$", README.split("## Speed")[1].split("\n## ")[0], re.MULTILINE)
    assert len(quoted) == 5
    for line in quoted:
        assert line in results.splitlines()


@pytest.mark.parametrize(
    ("page", "longest"), [("README.md", 200), ("CONTRIBUTING.md", 50), ("CHANGELOG.md", 60), ("docs/README.md", 50)]
)
def test_a_page_for_people_in_a_hurry_stays_short(page: str, longest: int) -> None:
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= longest


def test_the_glossary_has_few_terms_in_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| (?!term\b|---)([^|]+?) \|", text, re.MULTILINE)
    assert 20 <= len(terms) <= 30
    assert terms == sorted(terms)
