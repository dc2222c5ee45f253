"""Files: their digest, and a new one that takes the place of an old one. Needs Python alone."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepkit.errors import DiskUnusable, StepError

_REMEDIES = (
    ({errno.ENOSPC, errno.EDQUOT, errno.EFBIG}, "Make room on its disk (df -h), then run the same command again."),
    ({errno.EROFS, errno.EACCES, errno.EPERM}, "Give this user the right to write there, or name another place."),
    (  # the last two are of a network mount whose server went away
        {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN},
        "Look at the system's log and limits (dmesg, ulimit -n), then run the same command again.",
    ),
)
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target`, of the same ending, that takes its place only if the block succeeds."""
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def to_disk_error(error: BaseException) -> StepError | None:
    """Return the error to show if a disk is full, read-only or broken, else None."""
    if isinstance(error, OSError):
        for numbers, remedy in _REMEDIES:
            if error.errno in numbers:
                return _make_disk_error(error, remedy)
    return None


def to_file_error(error: OSError) -> StepError | None:
    """Return the error to show if a path does not exist or is of the wrong kind, else None."""
    if "temporary directory" in str(error):
        return DiskUnusable("TMPDIR: no folder for temporary files can be written. Set TMPDIR to one that has room.")
    if error.errno not in _MISSING or not error.filename:
        return None
    return _make_disk_error(error, "Make its folder, or name another place.")


def _make_disk_error(error: OSError, instead: str) -> DiskUnusable:
    return DiskUnusable(f"{error.filename or 'this machine'}: {error.strerror or error}. {instead}")
