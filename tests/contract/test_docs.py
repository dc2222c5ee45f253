"""The pages of docs/ are true: settings as in the schema, links with a target, a row that fits the table of steps."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from docs.make_reference import PAGE, render_page
from pipeline.config import parse_config
from pipeline.steps import MODEL, STEPS, Step
from stepkit.paths import ROOT
from tests.support.repo import PROJECT_FOLDERS, list_files
from tests.support.small_data import compose_config

PAGES = sorted(path for path in list_files() if path.suffix == ".md")
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|\.\./\.\./actions/)([^)\s]+)\)")


def list_anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_reference_equals_its_generated_text() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "type: make docs"


def test_the_picture_has_each_folder_and_an_arrow_for_each_input_of_a_step() -> None:
    (picture,) = re.findall(
        r"```mermaid\n(.*?)```", (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8"), re.DOTALL
    )
    arrows = {("-->", source, step.name) for step in STEPS for source in step.reads.values()}
    arrows |= {("-.->", source, step.name) for step in STEPS for source in step.after}
    drawn = re.findall(r"^  (\w+) (-->|-\.->) (\w+)$", picture, re.MULTILINE)
    assert {(kind, source, target) for source, kind, target in drawn} == arrows
    assert [step.name for step in STEPS if step.name != MODEL and f'{step.name}["{step.name}/"]' not in picture] == []
    assert [folder for folder in PROJECT_FOLDERS if f"{folder}/" not in picture] == []


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_within_the_repository_have_a_target(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), target
        if anchor and page.suffix == ".md":
            assert anchor in list_anchors(page), target


def test_the_row_that_a_new_step_adds_is_a_row_of_the_table_of_steps() -> None:
    text = (ROOT / "docs" / "add-a-step.md").read_text(encoding="utf-8")
    (row,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Step(" in block]
    (step,) = eval(f"[{dedent(row)}]", {"Step": Step})  # as a row among others, as in STEPS
    assert isinstance(step, Step)
    assert set(step.reads.values()) <= {step.name for step in STEPS}
    assert step.parameters(parse_config(compose_config()), "runs:/x/y")["input_artifact"] == "preprocessed_data.csv"


def test_every_page_is_listed() -> None:
    listed = set(LINK.findall((ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= listed
