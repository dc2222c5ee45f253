"""promote: make a version the champion by hand, and leave on it who did it, when and why."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.manual import command, expect_reason, put_in_place, run, version_of
from stepkit.errors import NoVerdict

REASON = "gate."
"""Tags of a version: each rule of the gate that it failed, and how."""


def promote(client: MlflowClient, name: str, version: str, reason: str, without_verdict: bool) -> str:
    """Make `version` the champion, and say what was done.

    Raises:
        BadParameter: no reason, no such version, or it is champion already.
        NoVerdict: nobody has judged it, and it was not said that this does not matter.
        ChampionMoved: somebody else moved the champion at the same moment.
    """
    expect_reason(reason)
    tags = version_of(client, name, version).tags
    if "verdict" not in tags and not without_verdict:
        raise NoVerdict(
            f"version {version} of {name} has no verdict of the gate. Register it by the pipeline, or promote it all "
            "the same: without_verdict=true"
        )
    before = put_in_place(client, name, version, reason)
    instead = f" instead of version {before}, which is previous now" if before else ""
    failed = [f"\n  although {text}" for tag, text in tags.items() if tag.startswith(REASON)]
    return f"{name} version {version} is champion{instead}{''.join(failed)}"


def parser() -> argparse.ArgumentParser:
    flags = command(__doc__)
    flags.add_argument("--version", required=True, help="number of the version")
    flags.add_argument("--reason", required=True, help="why, for those who read it later")
    flags.add_argument(
        "--without_verdict", choices=("true", "false"), default="false", help="true: also a version that nobody judged"
    )
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    run(lambda client: promote(client, args.model_name, args.version, args.reason, args.without_verdict == "true"))


if __name__ == "__main__":
    main()
