"""Command that fills docker/.env from docker/.env.example, with random values for missing secrets."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BYTES = 32


def make_secret(name: str) -> str:
    """Return a random secret of 256 bits, of characters that need no quoting in a shell, a URL or a compose file."""
    if name.endswith("_FERNET_KEY"):
        return base64.urlsafe_b64encode(secrets.token_bytes(BYTES)).decode()
    return secrets.token_urlsafe(BYTES)


def parse_assignments(text: str) -> dict[str, str]:
    """Return the NAME=VALUE lines of an environment file as a dictionary."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#") and "=" in line]
    return {name.strip(): value.strip() for name, _, value in pairs}


def fill_values(example: str, current: str) -> tuple[str, list[str]]:
    """Return the new text of an environment file and the names of its new secrets. Existing values are kept."""
    values, defaults = parse_assignments(current), parse_assignments(example)
    if not current:
        current, values = example, {name: value for name, value in defaults.items() if value}
    new = {name: value or make_secret(name) for name, value in defaults.items() if not values.get(name)}
    added = [f"{name}={value}" for name, value in new.items() if name not in parse_assignments(current)]
    lines = [*(_fill_line(line, new) for line in current.splitlines()), *added]
    return "\n".join(lines) + "\n", [name for name in new if not defaults[name]]


def _fill_line(line: str, new: dict[str, str]) -> str:
    name = line.partition("=")[0].strip()
    return f"{name}={new[name]}" if name in new and not line.lstrip().startswith("#") else line


def write_private_file(target: Path, text: str) -> None:
    """Write a file with mode 600, atomically."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(target)


def main(folder: Path = HERE) -> None:
    """Fill the file `.env` of a folder."""
    target = folder / ".env"
    current = target.read_text(encoding="utf-8") if target.is_file() else ""
    text, secret_names = fill_values((folder / ".env.example").read_text(encoding="utf-8"), current)
    if text != current:
        write_private_file(target, text)
    target.chmod(0o600)
    kept_count = len(parse_assignments(text)) - len(secret_names)
    print(f"{target}: new secrets: {len(secret_names)}, kept values: {kept_count}, mode 600")


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:2]))
