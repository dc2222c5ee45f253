"""File helpers: sha256, atomic replacement, and messages for disk errors. Needs only the standard library."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepkit.errors import DiskUnusable, StepError

_REMEDIES = (
    ({errno.ENOSPC, errno.EDQUOT, errno.EFBIG}, "Free space on this disk (df -h), then run the same command again."),
    ({errno.EROFS, errno.EACCES, errno.EPERM}, "Give this user write permission, or choose another path."),
    (  # ESTALE and ENOTCONN come from a network mount whose server is unavailable
        {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN},
        "Check the system log and limits (dmesg, ulimit -n), then run the same command again.",
    ),
)
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def compute_sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target` with the same suffix; it replaces `target` only if the block succeeds."""
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def to_disk_error(error: BaseException) -> StepError | None:
    """Return the error to raise if a disk is full, read-only or broken, else None."""
    if isinstance(error, OSError):
        for numbers, remedy in _REMEDIES:
            if error.errno in numbers:
                return _make_disk_error(error, remedy)
    return None


def to_file_error(error: OSError) -> StepError | None:
    """Return the error to raise if a path is missing or of the wrong kind, else None."""
    if "temporary directory" in str(error):
        return DiskUnusable("TMPDIR: no writable folder for temporary files. Set TMPDIR to a folder with free space.")
    if error.errno not in _MISSING or not error.filename:
        return None
    return _make_disk_error(error, "Create its folder, or choose another path.")


def _make_disk_error(error: OSError, remedy: str) -> DiskUnusable:
    return DiskUnusable(f"{error.filename or 'this machine'}: {error.strerror or error}. {remedy}")
