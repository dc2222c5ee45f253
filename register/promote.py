"""promote: make a version the champion by hand, and record user, time and reason on the version."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.manual import make_command_parser, move_by_hand, run_command, verify_reason
from stepkit.errors import BadParameter, NoVerdict
from stepkit.settings.load import format_make_command
from stepkit.store.champion import REASON_TAG
from stepkit.store.tracking import handle_missing


def promote(client: MlflowClient, name: str, version: str, reason: str, without_verdict: bool) -> str:
    """Make `version` the champion; return the result in words.

    Raises:
        BadParameter: no reason, not a number, no such version, or already champion.
        NoVerdict: the version has no verdict, and `without_verdict` is False.
        ChampionMoved: another process moved the champion at the same time.
    """
    verify_reason(reason)
    hint = f"List the versions: {format_make_command('models', name)}"
    if not version.isdecimal():
        raise BadParameter(f"--version: '{version}' is not a version (expected a number, such as VERSION=2). {hint}")
    with handle_missing(lambda _: BadParameter(f"{name} has no version {version}. {hint}")):
        tags = client.get_model_version(name, version).tags
    if "verdict" not in tags and not without_verdict:
        raise NoVerdict(
            f"{name} version {version}: no verdict of the gate. Register the model with the pipeline, or promote this "
            "version without a verdict: without_verdict=true"
        )
    old = move_by_hand(client, name, version, reason)
    previous = f"; version {old} is now previous" if old else ""
    failed = [f"\n  overruled gate rule: {text}" for tag, text in tags.items() if tag.startswith(REASON_TAG)]
    return f"{name} version {version} is now champion{previous}{''.join(failed)}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = make_command_parser(__doc__)
    flags.add_argument("--version", required=True, help="number of the version")
    flags.add_argument(
        "--without_verdict", choices=("true", "false"), default="false", help="true: allow a version without a verdict"
    )
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    run_command(
        lambda client: promote(client, args.model_name, args.version, args.reason, args.without_verdict == "true")
    )


if __name__ == "__main__":
    main()
