"""What can be wrong with a backup or with the place that it is restored to. Each message says what to do."""

from __future__ import annotations


class BackupError(Exception):
    """Shown as one line, without a traceback."""


class BackupUnfit(BackupError):
    """No backup, half of one, a damaged one, or one that this code cannot read."""


class TargetUnfit(BackupError):
    """The place that a backup is restored to is in use, or holds something already."""


class RestoreUnfinished(BackupError):
    """A restore broke off after something was replaced that could not be put back."""


class SourceUnreadable(BackupError):
    """What is to be saved is not there, or refuses."""
