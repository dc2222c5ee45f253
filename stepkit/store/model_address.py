"""URIs of registered models: models:/NAME@ALIAS or models:/NAME/VERSION, and the version behind a URI."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stepkit.settings.model import NOT_CALIBRATED

DEFAULT_ADDRESS = "models:/credit_default@champion"
ADDRESSES = "models:/NAME@ALIAS or models:/NAME/VERSION"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class RegisteredVersion:
    """Version of a registered model.

    Attributes:
        source: distinguishes the version from one with the same number in another registry.
        run_id: the run that logged the model; "" if unknown.
        calibration: sigmoid, isotonic or none. Versions of earlier releases have none.
    """

    name: str
    version: str
    source: str
    run_id: str = ""
    calibration: str = NOT_CALIBRATED

    @property
    def uri(self) -> str:
        """URI of exactly this version."""
        return f"models:/{self.name}/{self.version}"
