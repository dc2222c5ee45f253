"""promote: make a version the champion by hand, and leave on it who did it, when and why."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.manual import make_command_parser, move_by_hand, run_command, verify_reason
from stepkit.errors import BadParameter, NoVerdict
from stepkit.settings.load import format_make_command
from stepkit.store.tracking import handle_missing

REASON_TAG = "gate."
"""Tags of a version: each rule of the gate that it failed, and how."""


def promote(client: MlflowClient, name: str, version: str, reason: str, without_verdict: bool) -> str:
    """Make `version` the champion; return what was done, in words.

    Raises:
        BadParameter: no reason, no number, no such version, or it is champion already.
        NoVerdict: it was never judged, and `without_verdict` is not set.
        ChampionMoved: another process moved the champion at the same moment.
    """
    verify_reason(reason)
    listed = f"{format_make_command('models', name)} lists them"
    if not version.isdecimal():
        raise BadParameter(f"'{version}' is not a version. Name its number, VERSION=2; {listed}.")
    with handle_missing(lambda _: BadParameter(f"{name} has no version {version}; {listed}.")):
        tags = client.get_model_version(name, version).tags
    if "verdict" not in tags and not without_verdict:
        raise NoVerdict(
            f"version {version} of {name} has no verdict of the gate. Register it by the pipeline, or promote it all "
            "the same: without_verdict=true"
        )
    before = move_by_hand(client, name, version, reason)
    instead = f" instead of version {before}, which is previous now" if before else ""
    failed = [f"\n  although {text}" for tag, text in tags.items() if tag.startswith(REASON_TAG)]
    return f"{name} version {version} is champion{instead}{''.join(failed)}"


def make_parser() -> argparse.ArgumentParser:
    flags = make_command_parser(__doc__)
    flags.add_argument("--version", required=True, help="number of the version")
    flags.add_argument(
        "--without_verdict", choices=("true", "false"), default="false", help="true: also a version that nobody judged"
    )
    return flags


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    run_command(
        lambda client: promote(client, args.model_name, args.version, args.reason, args.without_verdict == "true")
    )


if __name__ == "__main__":
    main()
