"""Command-line flags shared by the steps, so that a flag has the same meaning in each of them."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from stepkit.secret_urls import hide_secrets_in_text
from stepkit.settings.load import DEFAULT_MODEL
from stepkit.table.columns import Strict

UNFIT_FOR_A_NAME = re.compile(r"""['"/:?\\\x00-\x1f\x7f]""")
LONGEST_NAME = 250


class UnfitName(argparse.ArgumentTypeError, ValueError):
    """A name that MLflow's registry, its filters or a models:/ URI cannot contain."""


def parse_model_name(text: str) -> str:
    """Return the name of a registered model; raise UnfitName if MLflow would not accept it."""
    if unfit := UNFIT_FOR_A_NAME.search(text):
        raise UnfitName(f"a registered model's name cannot contain {unfit[0]!r}. Use letters, digits, - and _")
    if not 0 < len(text) <= LONGEST_NAME or text != text.strip() or text in (".", ".."):
        raise UnfitName(
            f"a registered model's name must have 1 to {LONGEST_NAME} characters and no space at either end "
            f"(found {len(text)} characters)"
        )
    return text


FLAGS: dict[str, dict[str, object]] = {
    "step": {"required": True, "help": "name of this step, as later steps find it in the tag 'step'"},
    "input_step": {"required": True, "help": "step whose artifact to read"},
    "input_run_id": {"default": "", "help": "run to read from; empty: the newest current run of input_step"},
    "input_artifact": {"required": True, "help": "artifact of input_step to read"},
    "artifact_name": {"required": True, "help": "artifact to publish; .csv or .parquet"},
    "artifact_description": {"default": "", "help": "description of the published artifact"},
    "stratify": {"default": "", "help": "column whose values keep their shares in both parts; empty: none"},
    "split": {
        "choices": ("random", "time"),
        "default": "random",
        "help": "random, or time: the newest rows by time_column of data/*.yaml are the second part",
    },
    "random_seed": {"type": int, "default": 42, "help": "random seed of this step"},
    "evaluate_config": {
        "default": "config.yaml",
        "help": "YAML file (or runs:/ID/NAME) with the settings of the evaluation, under the key 'evaluate' if present",
    },
    "replace_data_set": {
        "choices": ("true", "false"),
        "default": "false",
        "help": "true: allow the model to replace a champion of another data set",
    },
    "model_export": {"required": True, "help": "name of the logged model"},
    "input_model_step": {"required": True, "help": "step that logged the model"},
    "input_model_run_id": {"default": "", "help": "run of the model; empty: the newest current run"},
    "verdict": {"default": "verdict.json", "help": "artifact that contains the verdict"},
    "model_name": {"type": parse_model_name, "default": DEFAULT_MODEL, "help": "registered model"},
}


class Parser(argparse.ArgumentParser):
    """Argument parser that rejects abbreviated flags and suggests the flag that the user may have meant.

    `mlflow run -P NAME=VALUE` passes a parameter that the project does not declare as `--NAME VALUE`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse flags; accept a value that begins with a dash ("-5%"), which argparse would read as a flag."""
        words = list(sys.argv[1:] if args is None else args)
        flags = self._option_string_actions
        joined: list[str] = []
        while words:
            word = words.pop(0)
            if word in flags and flags[word].nargs is None and words and words[0] not in flags and words[0][:1] == "-":
                word = f"{word}={words.pop(0)}"
            joined.append(word)
        return super().parse_known_args(joined, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with the message, without secrets; for an unknown flag, name similar flags or list all."""
        flags = [flag for action in self._actions for flag in action.option_strings if action.dest != "help"]
        typed = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
        if message.startswith("unrecognized arguments"):
            close = [flag for word in typed for flag in difflib.get_close_matches(word, flags, n=1)]
            hint = f"did you mean {' or '.join(close)}?" if close else f"known flags: {', '.join(sorted(flags))}"
            message += f"; {hint}"
        super().error(hide_secrets_in_text(message))


def make_step_parser(doc: str | None, *flags: str) -> Parser:
    """Return a parser for `--step` and the shared `flags`, with a step's docstring as its description."""
    parser = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("step", *flags):
        parser.add_argument(f"--{flag}", **FLAGS[flag])  # type: ignore[arg-type]  # the table above is checked by use
    return parser


def make_settings_parser(settings: type[Strict], section: str, prog: str, doc: str | None) -> Parser:
    """Return a parser with a text flag for each setting of a project; `resolve_settings` checks the values."""
    hint = f"An empty flag takes its value from the section `{section}` of config.yaml; `none` means null."
    parser = Parser(prog=prog, description=f"{doc} {hint}")
    add_settings(parser, settings, *settings.model_fields)
    return parser


def add_settings(parser: Parser, settings: type[Strict], *names: str) -> None:
    """Add a text flag for each of these settings of a project."""
    for name in names:
        meaning = settings.model_fields[name].description or ""
        parser.add_argument(f"--{name}", default="", help=meaning.replace("%", "%%"))


def make_positive_parser(kind: Callable[[str], float], below: float = math.inf) -> Callable[[str], float]:
    """Return an argparse type for numbers of a kind (int or float) above 0 and below a limit."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from error
        if not 0 < value < below:
            limits = "be above 0" if below == math.inf else f"be above 0 and below {below:g}"
            raise argparse.ArgumentTypeError(f"{text} must {limits}")
        return value

    return parse


def parse_count(text: str) -> int:
    """Return a whole number from 0 as an argparse type."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


parse_share = make_positive_parser(float, below=1.0)
