"""Every error that a person can mend, on one page. Each message says what, where, and what to type next."""

import argparse
import re

ABOUT_COLUMNS = re.compile(
    r"(Model is missing inputs \[.+?\]|Incompatible input types for column .+?\. Can not safely convert \w+ to \w+)"
)
"""Those reasons of MLflow that name columns and types; its other messages, and those of pandas, repeat values."""


class StepError(Exception):
    """A mistake in an input, a parameter or the surroundings; shown as one message without a traceback."""


def explain_without_rows(error: Exception) -> str:
    """Return why scoring failed, for logs and open pages: without the message of a library, which may repeat rows."""
    if isinstance(error, StepError):
        return str(error)
    about_columns = ABOUT_COLUMNS.search(str(error))
    return f"{type(error).__name__}: {about_columns[1]}" if about_columns else type(error).__name__


class BadParameter(StepError):
    """A parameter has a value that the step cannot work with."""


class SecretInAddress(BadParameter, argparse.ArgumentTypeError, ValueError):
    """An address holds a password, a key or a signature where it would be kept for good."""


class DownloadFailed(StepError):
    """The source of the data did not answer, refused, or broke off."""


class WrongDigest(StepError):
    """A file is not the one that was asked for: its sha256 differs."""


class TableUnreadable(StepError):
    """A file is not a table: empty, of another format, in another encoding, cut off."""


class TableUnfit(StepError):
    """A table can be read but lacks what the step needs (a column, a class, enough rows)."""


class UpstreamMissing(StepError):
    """No finished current run of the step that this one reads from."""


class ArtifactMissing(StepError):
    """The run that should hold an artifact does not hold it (deleted, or never made)."""


class ArtifactDamaged(StepError):
    """An artifact is not the one that its step published: its sha256 differs."""


class DataCheckFailed(StepError):
    """The data are readable but not as the data set's description or the reference says."""


class ExportUnequal(StepError):
    """The exported model does not answer as the trained one does."""


class VerdictUnfit(StepError):
    """The verdict is not about the model that is to be registered."""


class ModelRejected(StepError):
    """The gate rejected the model, and evaluate.on_reject says that this is a failure."""


class NoVerdict(StepError):
    """A version that nobody judged was to become champion by hand."""


class ChampionMoved(StepError):
    """Somebody else moved the alias `champion` in the meantime."""


class EnvironmentFailed(StepError):
    """The environment of a step cannot be made from its conda.yml."""


class TrackingUnreachable(StepError):
    """The tracking server does not answer."""


class TrackingRefused(StepError):
    """The tracking server does not know this account, or does not let it do that."""


class ArtifactsNotStored(StepError):
    """The tracking server answers, but cannot write artifacts: its disk is full."""


class StoreUnusable(StepError):
    """The database of the tracking store cannot be opened, written or understood."""


class StoreFailed(StepError):
    """The tracking store answers, but does not do it."""


class DiskUnusable(StepError):
    """A file or folder of this machine cannot be written or read: full, read-only, missing."""
