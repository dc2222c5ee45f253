"""promote: make a version the champion by hand, and leave on it who did it, when and why."""

from __future__ import annotations

import argparse

from mlflow import MlflowClient

from register.manual import command, expect_reason, put_in_place, run
from stepkit.errors import BadParameter, NoVerdict
from stepkit.settings.load import make_for
from stepkit.store.tracking import missing_as

REASON = "gate."
"""Tags of a version: each rule of the gate that it failed, and how."""


def promote(client: MlflowClient, name: str, version: str, reason: str, without_verdict: bool) -> str:
    """Make `version` the champion; return what was done, in words.

    Raises:
        BadParameter: no reason, no number, no such version, or it is champion already.
        NoVerdict: it was never judged, and `without_verdict` is not set.
        ChampionMoved: another process moved the champion at the same moment.
    """
    expect_reason(reason)
    listed = f"{make_for('models', name)} lists them"
    if not version.isdecimal():
        raise BadParameter(f"'{version}' is not a version. Name its number, VERSION=2; {listed}.")
    with missing_as(lambda _: BadParameter(f"{name} has no version {version}; {listed}.")):
        tags = client.get_model_version(name, version).tags
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
    flags.add_argument(
        "--without_verdict", choices=("true", "false"), default="false", help="true: also a version that nobody judged"
    )
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    run(lambda client: promote(client, args.model_name, args.version, args.reason, args.without_verdict == "true"))


if __name__ == "__main__":
    main()
