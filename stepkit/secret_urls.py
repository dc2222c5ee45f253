"""Addresses that hold a secret: found in any text, shown without it, and named by a variable instead of written down.

MLflow keeps every parameter of a run for good, and `mlflow run` does so before any code of this project is called. So
an address with a password, a key or a signature in it is refused as a parameter, and its place is the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from stepkit.errors import BadParameter, SecretInAddress, StepError

VARIABLE_PREFIX = "env:"
"""How an address begins that names the variable which holds the real one: env:DATA_URL."""

MASK = "***"
SHORTEST_SECRET, SHORTEST_VALUE = 3, 8
"""Characters: a shorter part of an address, or value of a variable, occurs in any text and is not searched for."""

_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_WORDS = "password|passwd|passphrase|pwd|secret|token|signature|credentials?|sslkey|apikey|accesskey|accountkey"
_SECRET_NAME = re.compile(rf"(?i)({_WORDS}|(^|[-_.])(sig|sign|key|pass|pw|auth|authorization|awsaccesskeyid|sas|jwt))$")
"""Names of parameters that carry a secret: X-Amz-Signature, sig (Azure), X-Goog-Credential, sslpassword ..."""

_PORT = r"\d{1,5}(?=[/?#]|[,.;:)\]}>]*(?:\s|$))"
_NAME = r"[A-Za-z][A-Za-z0-9+.-]*"
_SCHEME = re.compile(rf"(?<![A-Za-z0-9+.-])(?:{_NAME}(?:://[^\s:@]*)?::)*{_NAME}://")
"""How an address begins; fsspec chains them: zip://a.csv::https://..."""

_HOST = re.compile(rf"(?:localhost|\d+(?:\.\d+){{3}}|\[[0-9A-Fa-f:.]*\])(?::{_PORT}|(?=[^\w:@-]|$))")
"""An authority that is a host for certain: an @ behind it belongs to the path."""

_OPEN = re.compile(rf"[^:/?#\s'\"<>]*:(?!{_PORT}).")
"""`user:p`: what follows the colon is not a port, so it is a password, even where its @ was cut off."""

_PASSWORD = re.compile(r"(?s)(?!/|user:password@)[^:]*:.*@")
_USER = re.compile(r"[^/?#@]*@")
_NO_SLASHES = re.compile(r"(?<![\w+./:@-])([A-Za-z][A-Za-z0-9+.-]+:)[^\s/?#:@]+:\S+@")
_ENCODED = re.compile(r"(?i)[a-z](?:[a-z0-9+.-]|%(?:25)*2B){0,40}%(?:25)*3A(?:%(?:25)*2F){2}[^\s'\"<>&]*")
_PARAMETER = re.compile(r"[?&;#]([^=?&;#]+)=")
_IN_QUERY = re.compile(r"([?&;#])([^\s=?&;#]+)=([^\s&;'\"<>]+)")
_ASSIGNED = re.compile(
    rf"(?i)(?<![\w.-])([\w.-]*(?:{_WORDS})(?:\s*=\s*|%3D|['\"]\s*:\s*))('[^']*'|\"[^\"]*\"|[^\s,;&)'\"]+)"
)


def has_secret(address: str) -> bool:
    """Return whether an address has a password, a token as user, or a parameter named like a key or a signature."""
    scheme, rest = _split_scheme(address)
    token = scheme.lower().startswith("http") and _USER.match(rest)
    return bool(_find_password_end(scheme, rest) or token or _NO_SLASHES.match(address) or _list_secret_values(address))


def has_secret_in_text(text: str) -> bool:
    """Return whether an address in a text holds a secret."""
    return any(has_secret(text[start:end]) for start, end in _iter_urls(text))


def hide_secrets(address: str) -> str:
    """Return an address as it may be printed and stored: without user, password, and a query that holds a secret."""
    scheme, rest = _split_scheme(address)
    if not scheme:
        rest = _NO_SLASHES.sub(r"\1", rest)
    end = _find_password_end(scheme, rest)
    if _list_secret_values(rest[:end]):
        return scheme + MASK  # an @ in the query: which part is the host cannot be known
    rest = rest[end:]
    if scheme and not rest.startswith("user:password@") and (user := _USER.match(rest)):
        rest = rest[user.end() :]
    return scheme + (re.split("[?;#]", rest)[0] if _list_secret_values(rest) else rest)


def hide_secrets_in_text(text: str, *known: str) -> str:
    """Return a text with every address in it as it may be shown.

    Args:
        known: addresses whose secrets are masked in any form: cut off, quoted, percent-encoded. Those of environment
            variables are always known, and so are the values of variables that are named like a secret.
    """
    named = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_VALUE and _is_secret_name(name) and name not in ("PWD", "OLDPWD")
    }
    for secret in sorted(
        {*_iter_secret_forms(known), *_iter_secret_forms(os.environ.values()), *named}, key=len, reverse=True
    ):
        text = text.replace(secret, MASK)
    parts, position = list[str](), 0
    for start, end in [*_iter_urls(text), (len(text), len(text))]:
        between = _NO_SLASHES.sub(r"\1", text[position:start])
        parts += [_ENCODED.sub(_hide_encoded, between), hide_secrets(text[start:end])]
        position = end
    text = "".join(parts)
    text = _IN_QUERY.sub(lambda one: f"{one[1]}{one[2]}={MASK}" if _is_secret_name(one[2]) else one[0], text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)


def _split_scheme(address: str) -> tuple[str, str]:
    """Return an address in two parts: its scheme with ://, and the rest; without a scheme all of it is the rest."""
    found = _SCHEME.match(address)
    return (found[0], address[found.end() :]) if found else ("", address)


def _find_password_end(scheme: str, rest: str) -> int:
    """Return where user and password end, which begin the rest of an address; 0 if there is no password."""
    if not scheme or _HOST.match(rest):
        return 0
    if found := _PASSWORD.match(rest):
        return found.end()
    cut = _OPEN.match(rest)
    return len(rest) if cut and cut[0][-1] not in "/?#" and not rest.startswith("user:password@") else 0


def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(unquote(name)))


def _list_secret_values(address: str) -> list[str]:
    """Return all that follows each parameter of an address that is a secret, or an address with a secret.

    An unencoded & or # may belong to the secret, so only the end of the address ends it.
    """
    values = list[str]()
    for one in _PARAMETER.finditer(address):
        value = address[one.end() :]
        inner = _decode_fully(re.split("[&;#]", value)[0])
        if value and (_is_secret_name(one[1]) or ("://" in inner and has_secret(inner))):
            values.append(value)
    return values


def _decode_fully(text: str) -> str:
    """Return a text without percent-encoding, however often it was encoded."""
    while (plain := unquote(text)) != text:
        text = plain
    return text


def _hide_encoded(found: re.Match[str]) -> str:
    plain = _decode_fully(found[0])
    return quote(hide_secrets(plain), safe="") if has_secret(plain) else found[0]


def _iter_urls(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each address in a text starts and ends."""
    position = 0
    while found := _SCHEME.search(text, position):
        position = _find_url_end(text, found)
        yield found.start(), position


def _find_url_end(text: str, found: re.Match[str]) -> int:
    """Return where the address ends that starts in a text.

    A password may contain blanks and quotes. So an address with one ends behind the last @ before the next address,
    or of the line.
    """
    line_end = text.find("\n", found.end())
    rest = text[found.end() : line_end if line_end >= 0 else None]
    quote_sign = text[found.start() - 1 : found.start()]
    if quote_sign in ("'", '"') and (end := re.search(rf"(?<!\\){quote_sign}(?=[\s,\]}}):;.]|$)", rest)):
        return found.end() + end.start()
    at = -1
    if _OPEN.match(rest) and not _HOST.match(rest):
        following = re.search(rf"[\s'\"(\[,=|<>]{_SCHEME.pattern}", rest)
        at = rest.rfind("@", 0, following.start() if following else None)
        at = at if at >= 0 else rest.rfind("@")
    word = re.compile(r"[^\s'\"<>]*").match(rest, at + 1)
    return found.end() + (word.end() if word else len(rest))


def _iter_secret_forms(texts: Iterable[str]) -> Iterator[str]:
    """Yield the secrets of every address in the texts, in each form in which a library may repeat it."""
    for text in (text for text in texts if "://" in text):
        for start, end in {(0, len(text)), *_iter_urls(text)}:
            scheme, rest = _split_scheme(text[start:end])
            userinfo = rest[: _find_password_end(scheme, rest)].removesuffix("@")
            for secret in (userinfo.partition(":")[2], *_list_secret_values(text[start:end])):
                forms = {secret, unquote(secret), quote(unquote(secret), safe=""), quote(unquote(secret))}
                forms |= {repr(secret)[1:-1], json.dumps(secret)[1:-1]}
                forms |= {piece for form in forms for piece in re.split(r"[/?#@:%&;=\s]+", form)}
                yield from (form for form in forms if len(form) >= SHORTEST_SECRET and form != MASK)


def verify_no_secret(address: str, key: str, instead: str) -> str:
    """Return the address that was given as `key`; raise SecretInAddress if it holds a secret, and say what to do."""
    if has_secret(address):
        raise SecretInAddress(
            f"{key} holds a password, a key or a signature, and MLflow keeps parameters for good. {instead} If it was "
            "given to `mlflow run`, the run that this began has it on record: replace the secret, or delete that run "
            "(mlflow runs delete, then mlflow gc). An @ that belongs to a path is written %40."
        )
    return address


def parse_data_url(address: str) -> str:
    """Return the address of a table that may be a parameter; see `expect_no_secret`."""
    return verify_no_secret(
        address, "file_url", "Put the address into an environment variable, and name that: file_url=env:DATA_URL."
    )


def resolve_url(address: str) -> str:
    """Return the address in the variable that `address` names, else `address`; raise BadParameter if not set."""
    if not address.startswith(VARIABLE_PREFIX):
        return address
    name = address.removeprefix(VARIABLE_PREFIX)
    if not _VARIABLE.fullmatch(name):
        raise BadParameter(f"'{address}' names no environment variable. Write env:NAME, as in env:DATA_URL.")
    if value := os.environ.get(name):
        return value
    raise BadParameter(f"{address}: the environment variable {name} is not set where the step runs. Set it there.")


def to_recorded_url(address: str) -> str:
    """Return what is kept of an address: of one that a variable holds, no query at all."""
    value = hide_secrets(resolve_url(address))
    return re.split("[?;#]", value)[0] if address.startswith(VARIABLE_PREFIX) else value


def format_error(error: BaseException) -> str:
    """Return the text of an error without a secret; a StepError's begins with its kind, as in docs/faults.md."""
    return hide_secrets_in_text(f"{type(error).__name__}: {error}" if isinstance(error, StepError) else str(error))
