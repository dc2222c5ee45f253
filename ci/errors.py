"""What can go wrong when CI reports, each in one message that says what to do."""

from __future__ import annotations


class ReportFailed(Exception):
    """A report could not be made or posted."""
