"""Addresses that hold a secret: named by a variable instead of written down, and shown without it.

MLflow keeps every parameter of a run for good, and `mlflow run` does so before any code of this project is called. So
an address with a password, a key or a signature in it is refused as a parameter, and its place is the environment.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

from stepkit.errors import BadParameter, SecretInAddress

REFERENCE = "env:"
"""How an address begins that names the variable which holds the real one: env:DATA_URL."""

_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_SECRET_NAME = re.compile(
    r"(?i)(^|[-_.])(sig|sign|signature|token|accesstoken|key|apikey|accesskey|secret|password|passwd|pwd|credential|"
    r"auth|authorization|awsaccesskeyid)$"
)
"""Names of query parameters that carry a secret: X-Amz-Signature, sig (Azure), X-Goog-Credential, access_token ..."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")


def holds_secret(address: str) -> bool:
    """Whether an address has a password in it, or a query parameter that by its name is a key or a signature."""
    match = _USER.match(address)
    if match and ":" in match[0].removeprefix(match[1]):
        return True
    return any(_SECRET_NAME.search(name) for name, value in parse_qsl(_query(address)) if value)


def shown(address: str) -> str:
    """Return an address as it may be printed and kept: without user and password, and without a query with secrets."""
    bare = _USER.sub(r"\1", address)
    return bare.partition("?")[0] if holds_secret(address) else bare


def shown_in(text: str) -> str:
    """Return a text with every address in it as it may be shown."""
    return _ADDRESS.sub(lambda found: shown(found[0]), text)


def expect_no_secret(address: str, key: str, instead: str) -> str:
    """Return an address that may be a parameter.

    Args:
        key: what it was given as.
        instead: what to do with an address that holds a secret, as a sentence.

    Raises:
        SecretInAddress: it holds a password, a key or a signature; the message does not repeat it.
    """
    if holds_secret(address):
        raise SecretInAddress(
            f"{key} holds a password, a key or a signature, and MLflow keeps parameters for good. {instead} If it was "
            "given to `mlflow run`, the run that this began has it on record: replace the secret, or delete that run "
            "(mlflow runs delete, then mlflow gc)."
        )
    return address


def data_address(address: str) -> str:
    """Return the address of a table that may be a parameter; see `expect_no_secret`."""
    return expect_no_secret(
        address, "file_url", "Put the address into an environment variable, and name that: file_url=env:DATA_URL."
    )


def opened(address: str) -> str:
    """Return the address itself where `address` names a variable (env:NAME), else what was given.

    Raises:
        BadParameter: no such variable, or no name of one.
    """
    if not address.startswith(REFERENCE):
        return address
    name = address.removeprefix(REFERENCE)
    if not _VARIABLE.fullmatch(name):
        raise BadParameter(f"'{address}' names no environment variable. Write env:NAME, as in env:DATA_URL.")
    value = os.environ.get(name, "")
    if not value:
        raise BadParameter(f"{address}: the environment variable {name} is not set where the step runs. Set it there.")
    return value


def recorded(address: str) -> str:
    """Return what is kept of an address: of one that a variable holds, no query at all."""
    value = shown(opened(address))
    return value.partition("?")[0] if address.startswith(REFERENCE) else value


def _query(address: str) -> str:
    return urlsplit(address).query if "?" in address else ""
