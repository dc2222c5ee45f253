"""Take the one table out of a .gz or .zip file."""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from pathlib import Path

from stepkit.errors import TableUnreadable
from stepkit.tables import READABLE

PACKED = (".gz", ".zip")


def unpacked(path: Path) -> Path:
    """Return the table file inside `path`, written beside it; `path` itself when it is not packed.

    Raises:
        TableUnreadable: the archive is damaged, cut off, or does not hold exactly one table.
    """
    if path.suffix.lower() not in PACKED:
        return path
    if path.stat().st_size == 0:
        raise TableUnreadable(f"{path.name} is empty (0 bytes). Ask the source for the file again.")
    try:
        return _from_gzip(path) if path.suffix.lower() == ".gz" else _from_zip(path)
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise TableUnreadable(f"{path.name} is damaged or cut off: {error}.") from error


def _from_gzip(path: Path) -> Path:
    plain = path.with_suffix("")
    with gzip.open(path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return plain


def _from_zip(path: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(READABLE)]
        if len(names) != 1:
            held = ", ".join(names) or "none"
            raise TableUnreadable(f"{path.name} must hold exactly one table, and holds {len(names)}: {held}.")
        plain = path.with_name(Path(names[0]).name)
        with archive.open(names[0]) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
    return plain
