"""Where the repository stands, and what a place in it is called; to know that needs no MLflow."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def from_root(place: str) -> str:
    """A relative path means: relative to the repository, wherever the command was typed; an address stays as it is."""
    return place if "://" in place or place.startswith("runs:/") else str((ROOT / place).resolve())
