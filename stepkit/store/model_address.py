"""The address of a registered model: models:/NAME@ALIAS or models:/NAME/VERSION, and the version that one means."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_ADDRESS = "models:/credit_default@champion"
ADDRESSES = "models:/NAME@ALIAS or models:/NAME/VERSION"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        source: tells it from one of the same number in another registry.
        run_id: the run that logged it; "" if that is not known.
    """

    name: str
    version: str
    source: str
    run_id: str = ""

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"
