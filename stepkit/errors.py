"""Every error that the user can fix. Each message names the subject, the problem and the next command."""

import argparse
import re

ABOUT_COLUMNS = re.compile(
    r"(Model is missing inputs \[.+?\]|Incompatible input types for column .+?\. Can not safely convert \w+ to \w+)"
)
"""Messages of MLflow that are safe to log: they name columns and types. Other messages may quote values of a row."""


class StepError(Exception):
    """Problem with an input, a parameter or the environment. Printed as one message, without a traceback."""


def explain_without_rows(error: Exception) -> str:
    """Return the reason why scoring failed, without library messages that may quote rows. For logs and public pages."""
    if isinstance(error, StepError):
        return str(error)
    column_message = ABOUT_COLUMNS.search(str(error))
    return f"{type(error).__name__}: {column_message[1]}" if column_message else type(error).__name__


class BadParameter(StepError):
    """A parameter has a value that the step cannot use."""


class SecretInAddress(BadParameter, argparse.ArgumentTypeError, ValueError):
    """A URL that would be stored contains a password, a key or a signature."""


class DownloadFailed(StepError):
    """The data source did not respond, returned an error status or closed the connection early."""


class WrongDigest(StepError):
    """The sha256 of a file differs from the expected one."""


class TableUnreadable(StepError):
    """A file is not a readable table: empty, truncated, or of another format or encoding."""


class TableUnfit(StepError):
    """A table is readable but lacks a column, a class or enough rows."""


class UpstreamMissing(StepError):
    """The input step has no finished current run."""


class ArtifactMissing(StepError):
    """A run does not have an artifact: it was deleted or never published."""


class ArtifactDamaged(StepError):
    """The sha256 of an artifact differs from the one that its step recorded."""


class DataCheckFailed(StepError):
    """The data do not match the data set's description or the reference."""


class ExportUnequal(StepError):
    """The exported model and the trained model predict different probabilities."""


class VerdictUnfit(StepError):
    """The verdict belongs to another model than the one to register."""


class ModelRejected(StepError):
    """The gate rejected the model, and evaluate.on_reject is `fail`."""


class NoVerdict(StepError):
    """The user tried to promote a version that has no verdict."""


class ChampionMoved(StepError):
    """The alias `champion` was moved by another process in the meantime."""


class EnvironmentFailed(StepError):
    """The environment of a step could not be created from its conda.yml."""


class TrackingUnreachable(StepError):
    """The tracking server does not respond."""


class TrackingRefused(StepError):
    """The tracking server does not know this account or denies it the request."""


class ArtifactsNotStored(StepError):
    """The tracking server responds but cannot write artifacts, for example because its disk is full."""


class StoreUnusable(StepError):
    """The database of the tracking store cannot be opened, read or written."""


class StoreFailed(StepError):
    """The tracking store responds with an error."""


class DiskUnusable(StepError):
    """A local file or folder cannot be read or written: missing, read-only or on a full disk."""
