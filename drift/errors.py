"""Errors of monitoring."""

from __future__ import annotations

from stepkit.errors import StepError


class ReferenceMissing(StepError):
    """The reference, or the training data of a model version, is missing."""


class PackagesMissing(StepError):
    """This environment lacks packages that monitoring needs."""


class TooFewLabels(StepError):
    """The prediction log has too few labelled rows."""
