"""The plan of the tour fits the pages, and the commands of the pages name verbs and keys that exist."""

from __future__ import annotations

import re

import pytest

from docs.make_reference import list_settings_files
from stepkit.paths import ROOT
from tests.tour import plan
from tests.tour.pages import Command, FileBlock, list_pages, read_commands, read_file_blocks, read_outputs

PAGES = list_pages()
COMMANDS = [command for page in PAGES for command in read_commands(page)]
WITH_OPTIONS = [command for command in COMMANDS if "hydra_options=" in command.text]


@pytest.mark.parametrize("page", PAGES)
def test_every_named_make_verb_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


@pytest.mark.parametrize("command", WITH_OPTIONS, ids=[command.label for command in WITH_OPTIONS])
def test_every_override_names_a_known_key(command: Command) -> None:
    """Keys of the configuration, of a step that add-a-step.md adds, or of our plugins of Hydra."""
    files = [*list_settings_files().values(), ROOT / "pipeline" / "sweep" / "plugin_settings.py"]
    known = "file_url sha256" + "".join(file.read_text(encoding="utf-8") for file in files)
    for key in re.findall(r"([\w.]+)=", command.text.partition("hydra_options=")[2]):
        assert key.split(".")[0] in known
        assert key.rsplit(".", 1)[-1] in known


@pytest.mark.parametrize("page", PAGES)
def test_every_shown_output_names_a_command_of_its_page(page: str) -> None:
    typed = [command.text for command in read_commands(page)]
    assert [output.line for output in read_outputs(page) if output.command not in typed] == []


def test_pages_show_outputs() -> None:
    assert sum(len(read_outputs(page)) for page in PAGES) > 5


@pytest.mark.parametrize("pattern", [*plan.ELSEWHERE, *plan.EXIT_STATUS])
def test_the_plan_is_about_commands_of_the_pages(pattern: str) -> None:
    assert any(plan.is_meant(pattern, command) for command in COMMANDS)


@pytest.mark.parametrize("beginning", plan.SERVERS)
def test_the_servers_are_commands_of_the_pages(beginning: str) -> None:
    assert any(command.text.startswith(beginning) for command in COMMANDS)


INSERTED = [block for page in PAGES for block in read_file_blocks(page) if block.before is not None]


@pytest.mark.parametrize("block", INSERTED, ids=[f"{block.path}: {block.before}" for block in INSERTED])
def test_every_line_that_a_page_inserts_before_occurs_once(block: FileBlock) -> None:
    assert (ROOT / block.path).read_text(encoding="utf-8").splitlines().count(str(block.before)) == 1
