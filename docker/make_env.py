"""Fill docker/.env from docker/.env.example: a random value for each secret that has none. Needs Python alone."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BYTES = 32


def value_for(name: str) -> str:
    """A random secret of 256 bits, in letters that need no quoting in a shell, a URL or a compose file."""
    if name.endswith("_FERNET_KEY"):
        return base64.urlsafe_b64encode(secrets.token_bytes(BYTES)).decode()
    return secrets.token_urlsafe(BYTES)


def assignments(text: str) -> dict[str, str]:
    """The NAME=VALUE lines of an environment file; comments and empty lines are none."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line]
    return {name.strip(): value.strip() for name, _, value in pairs}


def filled(example: str, present: str) -> tuple[str, list[str]]:
    """Return the new text of an environment file, and which names got a value; what has a value keeps it."""
    known, wanted = assignments(present), assignments(example)
    if not present:
        present, known = example, {name: value for name, value in wanted.items() if value}
    new = {name: value or value_for(name) for name, value in wanted.items() if not known.get(name)}
    added = [f"{name}={value}" for name, value in new.items() if name not in assignments(present)]
    lines = [*(_line(line, new) for line in present.splitlines()), *added]
    return "\n".join(lines) + "\n", [name for name in new if not wanted[name]]


def _line(line: str, new: dict[str, str]) -> str:
    name = line.partition("=")[0].strip()
    return f"{name}={new[name]}" if name in new and not line.lstrip().startswith("#") else line


def write(target: Path, text: str) -> None:
    """Write a file that only its owner may read; it appears whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(target)


def main(folder: Path = HERE) -> None:
    target = folder / ".env"
    present = target.read_text(encoding="utf-8") if target.is_file() else ""
    text, made = filled((folder / ".env.example").read_text(encoding="utf-8"), present)
    if text != present:
        write(target, text)
    target.chmod(0o600)
    print(f"{target}: {len(made)} secrets made, {len(assignments(text)) - len(made)} values kept; mode 600")


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:2]))
