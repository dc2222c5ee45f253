"""Extraction of the table in a .gz or .zip file."""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from pathlib import Path

from download.fetch import rename_by_format
from stepkit.errors import TableUnreadable
from stepkit.table.fileformats import READABLE


def unpack_table(path: Path) -> Path:
    """Return the path of the table in a .gz or .zip, extracted next to it; any other `path` unchanged.

    Raises:
        TableUnreadable: the archive is damaged or encrypted, or does not contain exactly one table.
    """
    if path.suffix.lower() not in (".gz", ".zip"):
        return path
    try:
        return _unpack_gzip(path) if path.suffix.lower() == ".gz" else _unpack_zip(path)
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise TableUnreadable(
            f"{path.name}: damaged or cut off ({error}). Download it again, or ask its source."
        ) from error
    except RuntimeError as error:  # zipfile raises it for a password or an unknown compression
        raise TableUnreadable(f"{path.name}: cannot be unpacked ({error}). Unpack it and set data.file_url.") from error


def _unpack_gzip(path: Path) -> Path:
    plain = path.with_suffix("")
    with gzip.open(path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return rename_by_format(plain)


def _unpack_zip(path: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        tables = [name for name in archive.namelist() if name.lower().endswith(READABLE)]
        # macOS adds a metadata file for every file to the archive, with the same ending
        names = [name for name in tables if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            content = ", ".join(names) or f"none, only {', '.join(archive.namelist()[:5]) or 'nothing'}"
            raise TableUnreadable(
                f"{path.name}: must contain exactly one table (found {len(names)}: {content}). Unpack it and set "
                "data.file_url to one table."
            )
        plain = path.with_name(Path(names[0]).name)
        with archive.open(names[0]) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
    return plain
