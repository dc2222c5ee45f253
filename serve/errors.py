"""Errors of the scorer and of batch scoring."""

from __future__ import annotations

from stepkit.errors import StepError


class ModelRefused(StepError):
    """A version of the model that is not served: it cannot be loaded, or fails a check."""


class ModelFailed(ModelRefused):
    """A version of the model that returned values other than probabilities."""


class ReasonsUnavailable(StepError):
    """A version without a reference row, because an earlier release trained it, or an answer that has no reasons."""


class AnswerUnknown(StepError):
    """The prediction log has no such answer."""


class AddressUnusable(StepError):
    """The host and port in the settings cannot be listened on."""


class ProcessLost(StepError):
    """A child process was killed, for example because memory ran out."""


class EngineMissing(StepError):
    """Software that an entry point needs is not installed: Spark or Java."""
