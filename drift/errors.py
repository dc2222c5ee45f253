"""Errors of monitoring."""

from __future__ import annotations

from stepkit.errors import StepError


class ReferenceMissing(StepError):
    """There is nothing to compare with: the reference, or the data behind a model version, is not there."""


class PackagesMissing(StepError):
    """Monitoring needs packages that this environment lacks."""


class TooFewLabels(StepError):
    """The prediction log holds too few rows whose true label is known."""
