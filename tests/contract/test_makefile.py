"""make accepts any text in the variables of its verbs, and rejects every other variable before it runs anything."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from stepkit.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TAKES = {verb: names.split() for verb, names in re.findall(r"^takes\.([\w-]+) := (.+)$", MAKEFILE, re.MULTILINE)}
VERBS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
SHOW = 'takes.show := REASON\nshow: ; @printf %s "$$REASON"'


def make(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    return subprocess.run(["make", *words], cwd=ROOT, env={**outer, **env}, capture_output=True, text=True)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_rejects_a_variable_that_it_does_not_know_in_one_line(verb: str) -> None:
    ended = make("--dry-run", verb, "colour=blue (1)")
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert f"make {verb}: unknown variable 'colour'" in line
    assert ('options="colour=blue (1)"' in line) == ("options" in TAKES.get(verb, []))


def test_what_a_verb_takes_is_what_its_help_and_its_recipe_name() -> None:
    for verb, names in TAKES.items():
        assert verb in VERBS
        (recipe,) = re.findall(rf"^{verb}:.*\n(?:\t.*\n)+", MAKEFILE, re.MULTILINE)
        assert [name for name in names if not re.search(rf"[$({{]{name}\b", recipe)] == []


@pytest.mark.parametrize("text", ["-5%", 'it\'s "so"', "$5 $(shell exit 1) `x`", "a#b \\ c", "two\nlines", ""])
def test_a_variable_is_free_text(text: str) -> None:
    assert make("--silent", f"--eval={SHOW}", "show", f"REASON={text}").stdout == text
    assert make("--silent", f"--eval={SHOW}", "show", REASON=text).stdout == text


@pytest.mark.parametrize(
    ("value", "is_on"), [("yes", True), ("1", True), ("no", False), ("0", False), ("false", False)]
)
def test_a_switch_that_is_off_is_off(value: str, is_on: bool) -> None:
    restore = make("--dry-run", "restore", "FROM=x", f"replace={value}").stdout
    report = make("--dry-run", "ci-report", f"main={value}").stdout
    assert ("--replace" in restore, "--keep_as_base" in report) == (is_on, is_on)
