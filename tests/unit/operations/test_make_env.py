"""docker/.env gets random secrets, keeps existing values, and only its owner can read it."""

from __future__ import annotations

import base64
import runpy
import stat
from pathlib import Path
from typing import Any

import pytest

from stepkit.paths import ROOT

EXAMPLE = "# a comment\nPORT=7755\n\nA_PASSWORD=\nB_FERNET_KEY=\n#OPTIONAL=\n"


@pytest.fixture
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docker" / "make_env.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    return tmp_path


def test_every_empty_name_gets_a_secret_of_its_own(program: dict[str, Any], folder: Path) -> None:
    program["main"](folder)
    values = program["parse_assignments"]((folder / ".env").read_text())
    assert values["PORT"] == "7755"
    assert len(values["A_PASSWORD"]) >= 43
    assert program["fill_values"](EXAMPLE, "")[0] != program["fill_values"](EXAMPLE, "")[0], "two machines, two secrets"
    assert len(base64.urlsafe_b64decode(values["B_FERNET_KEY"])) == 32
    assert "OPTIONAL" not in values
    assert "# a comment" in (folder / ".env").read_text()


def test_only_the_owner_may_read_it(program: dict[str, Any], folder: Path) -> None:
    for _ in range(2):
        program["main"](folder)
        assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
        (folder / ".env").chmod(0o644)


def test_what_is_there_stays(program: dict[str, Any], folder: Path) -> None:
    present = "PORT=8000\nA_PASSWORD=mine\n# mine too\nEXTRA=1\n"
    (folder / ".env").write_text(present)
    program["main"](folder)
    text = (folder / ".env").read_text()
    assert text.startswith(present)
    assert set(program["parse_assignments"](text)) == {"PORT", "A_PASSWORD", "EXTRA", "B_FERNET_KEY"}


def test_a_second_time_changes_nothing(program: dict[str, Any], folder: Path) -> None:
    program["main"](folder)
    before = (folder / ".env").read_text()
    program["main"](folder)
    assert (folder / ".env").read_text() == before
