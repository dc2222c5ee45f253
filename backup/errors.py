"""Errors of a backup or a restore, each printed as one message without a traceback."""


class BackupError(Exception):
    """Base of all errors of this package."""


class BackupUnfit(BackupError):
    """Backup that is missing, unfinished or damaged, or that this code cannot restore here."""


class BackupIncomplete(BackupError):
    """Backup without some artifacts that its MLflow store refers to."""


class TargetUnfit(BackupError):
    """Target of a restore that is in use or not empty."""


class RestoreUnfinished(BackupError):
    """Restore that failed after it had replaced a PostgreSQL database."""


class SourceUnreadable(BackupError):
    """Database or program that is missing or fails."""
