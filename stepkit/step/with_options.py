"""Run a command with the words of make's `options` behind it: port=5001 becomes --port=5001.

python -m stepkit.step.with_options OPTIONS NAMES COMMAND ...; if NAMES is not empty, only the options of these names.
"""

from __future__ import annotations

import os
import shlex
import sys


def to_flags(options: str, only: str = "") -> list[str]:
    """Return one flag for each word, split as a shell splits them; ValueError means a quote that is not closed."""
    return [f"--{word}" for word in shlex.split(options) if not only or word.partition("=")[0] in only.split()]


if __name__ == "__main__":
    options, only, *command = sys.argv[1:]
    try:
        command += to_flags(options, only)
    except ValueError as error:
        print(f"options: {error} (found: {options}). Put quotes around values with blanks.", file=sys.stderr)
        sys.exit(2)
    os.execvp(command[0], command)
