"""Run a command with the words of make's `options` behind it, each with a prefix before it.

    python -m stepkit.with_options -- "port=5001 workers=2" "" python run.py  ->  python run.py --port=5001 --workers=2

The words are split as a shell splits them, quotes included. Where a name stands behind them, of the options only that
of this name is handed on.
"""

from __future__ import annotations

import os
import shlex
import sys


def words_of(options: str, prefix: str, only: str = "") -> list[str]:
    """Return the words with the prefix before each.

    Raises:
        ValueError: a quote is not closed.
    """
    words = [word for word in shlex.split(options) if not only or word.partition("=")[0] == only]
    return [prefix + word for word in words]


def main() -> None:
    prefix, options, only, *command = sys.argv[1:]
    try:
        command += words_of(options, prefix, only)
    except ValueError as error:
        print(f"options: {error} (found: {options}). Put quotes around values with blanks.", file=sys.stderr)
        sys.exit(2)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
