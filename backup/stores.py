"""Which databases are saved: those that the product itself uses, found as it finds them, with Python alone."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

from backup.errors import SourceUnreadable

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "config.yaml"
DATABASES = "BACKUP_DATABASES"
"""NAME=ADDRESS, separated by blanks, in the order in which they are saved: who refers to others first."""

NULLS = ("", "~", "null", "Null", "NULL")
SCALAR = re.compile(
    r"""(?: '(?P<single>[^']*)' | "(?P<double>[^"\\]*)" | (?P<plain> [^\s'"\#&*!|>%@`{}\[\],] (?: (?!\s\#|:\s) . )*? ) )
    \s* (?: (?<!\S) \# .* )?""",
    re.VERBOSE,
)


def databases_of(given: str | None, root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Return kind and address of each database by its name; where none are given, those that are in use here.

    The configuration wins over the environment, as in serve/run.py and stepkit/tracking.py. What is overridden on a
    command line cannot be seen from here.

    Raises:
        SourceUnreadable: an address of no database, or one that only a reader of YAML understands.
    """
    if not given:
        log = configured("serve", "log_url", root) or os.environ.get("PREDICTION_LOG_URL")
        tracking = configured("main", "mlflow_tracking_url", root) or os.environ.get("MLFLOW_TRACKING_URI")
        found = {"predictions": log or "sqlite:///predictions.db", "mlflow": tracking or "sqlite:///mlflow.db"}
    else:
        found = {name: address for name, _, address in (one.partition("=") for one in given.split())}
    return {name: _kind_and_address(name, address, root) for name, address in found.items()}


def configured(section: str, key: str, root: Path = ROOT) -> str:
    """Return a key of config.yaml, nothing where it is null or missing.

    Raises:
        SourceUnreadable: it is written such that only a reader of YAML, or OmegaConf, understands it.
    """
    path = root / CONFIG
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    behind, below = _entry(text, section)
    if behind:
        raise _unclear(section, path)
    behind, deeper = _entry(below, key)
    found = SCALAR.fullmatch(behind)
    value = next((one for one in found.groups() if one is not None), "") if found else ""
    if deeper or "${" in value or (behind and not found):
        raise _unclear(f"{section}.{key}", path)
    return "" if value in NULLS else value


def _entry(text: str, key: str) -> tuple[str, str]:
    """Return what stands behind a key, and the lines below that belong to it; both empty where there is no such key."""
    found = re.search(rf"""^(['"]?){key}\1 *:(| .*)((?:\n .*)*)$""", text, flags=re.MULTILINE)
    if not found:
        return "", ""
    behind = found[2].strip()
    return "" if behind.startswith("#") else behind, textwrap.dedent(found[3])


def _unclear(name: str, path: Path) -> SourceUnreadable:
    return SourceUnreadable(
        f"{name} of {path} cannot be read without a reader of YAML. Write it as one plain line, or name the "
        f"databases: {DATABASES}='predictions=sqlite:///FILE mlflow=sqlite:///FILE'"
    )


def _kind_and_address(name: str, address: str, root: Path) -> tuple[str, str]:
    scheme, _, place = address.partition("://")
    kind = scheme.partition("+")[0]
    if kind == "sqlite":
        file = place.partition("?")[0].removeprefix("/")  # behind it are options of the driver's
        return kind, str((root / file).resolve())
    if kind == "postgresql":
        return kind, f"{kind}://{place}"
    raise SourceUnreadable(
        f"{name} is at {scheme}://..., which is no database. Name one that is: {DATABASES}='{name}=sqlite:///FILE'. "
        "A server's databases are saved where the server runs (in the stack: make stack-backup)."
    )
