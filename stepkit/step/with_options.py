"""Run a command with make's `options` appended as flags: port=5001 becomes --port=5001.

Usage: python -m stepkit.step.with_options OPTIONS NAMES COMMAND ...; NAMES selects options, empty selects all.
"""

from __future__ import annotations

import os
import shlex
import sys


def to_flags(options: str, only: str = "") -> list[str]:
    """Return one flag for each option, split like a shell; raise ValueError if a quote is not closed."""
    return [f"--{word}" for word in shlex.split(options) if not only or word.partition("=")[0] in only.split()]


if __name__ == "__main__":
    options, only, *command = sys.argv[1:]
    try:
        command += to_flags(options, only)
    except ValueError as error:
        print(f"options: {error} (found: {options}). Put quotes around values with spaces.", file=sys.stderr)
        sys.exit(2)
    os.execvp(command[0], command)
