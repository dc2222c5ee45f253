"""Faults of a backup or of the place that it is restored to, each shown as one message without a traceback."""


class BackupError(Exception):
    """The base of all of them."""


class BackupUnfit(BackupError):
    """A backup is missing, unfinished, damaged, or one that this code cannot restore here."""


class BackupIncomplete(BackupError):
    """A store names something that is not in the backup."""


class TargetUnfit(BackupError):
    """The place that a backup is restored to is in use, or not empty."""


class RestoreUnfinished(BackupError):
    """A restore failed after it had replaced a database for good."""


class SourceUnreadable(BackupError):
    """A database or a program is missing, or does not do what is asked of it."""
