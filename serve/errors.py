"""Why a model is not served, and why a scorer or a batch job ends."""

from __future__ import annotations

from stepkit.errors import StepError


class ModelRefused(StepError):
    """A version of the model is not served: it cannot be loaded, or it is not what the scorer may serve."""


class ModelFailed(ModelRefused):
    """A version of the model returned something else than probabilities."""


class AddressUnusable(StepError):
    """Nobody can listen on the host and port of the settings."""


class ProcessLost(StepError):
    """A process that was to do a part of the work was ended from outside, as for want of memory."""


class EngineMissing(StepError):
    """What an entry point runs on is not installed: Spark, Java."""
