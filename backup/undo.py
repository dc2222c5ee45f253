"""How a restore takes itself back: each change leaves its reverse here, and a failure runs them, last first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Undo:
    """The changes of one restore. What was there before lies aside, under a name with `aside` in it."""

    def __init__(self, aside: str) -> None:
        self.aside = aside
        self._reverses: list[Callable[[], object]] = []
        self._moved: list[Path] = []
        self._final: list[str] = []

    def make_folder(self, path: Path) -> None:
        self._reverses.append(path.rmdir)
        path.mkdir()

    def move(self, old: Path, new: Path) -> None:
        """Put something aside."""
        self._reverses.append(lambda: new.rename(old))
        self._moved.append(new)
        old.rename(new)

    def will_make(self, path: Path) -> None:
        """Note a file or folder that is about to be written, so that it does not stay behind; what is there stays."""
        if not path.exists():
            self._reverses.append(lambda: shutil.rmtree(path) if path.is_dir() else path.unlink())

    def settle(self, what: str) -> None:
        """Note what is replaced for good. What it refers to was restored before it, and stays with it from here on."""
        self._reverses.clear()
        self._final.append(what)

    def run(self) -> None:
        """Put back what was there. What cannot be put back stays aside, where `remains` finds it."""
        while self._reverses:
            reverse = self._reverses.pop()
            with suppress(OSError):
                reverse()

    def remains(self) -> str:
        """Return in words what is not as it was before the restore; nothing where everything is."""
        lies = dict.fromkeys(str(self._named(path)) for path in self._moved if path.exists())
        replaced = f"{', '.join(self._final)} holds the backup by now, with what it refers to. " if self._final else ""
        aside = f"What was there before lies in {', '.join(lies)}. " if lies else ""
        return replaced + aside

    def _named(self, path: Path) -> Path:
        """The file that was put aside, or the folder that things were put into."""
        return path if self.aside in path.name else path.parent
