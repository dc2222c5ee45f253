"""URLs with secrets: detect them in any text, print them without the secret, read them from environment variables.

MLflow stores every parameter of a run permanently, and `mlflow run` does so before any code of this project runs. A
URL with a password, a key or a signature is therefore rejected as a parameter and belongs in the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from stepkit.errors import BadParameter, SecretInAddress, StepError

VARIABLE_PREFIX = "env:"
"""Prefix of a parameter that names the environment variable with the real URL, as in env:DATA_URL."""

MASK = "***"
SHORTEST_SECRET, SHORTEST_VALUE = 3, 8
"""Minimum lengths, in characters, of a secret in a URL and of a secret variable: shorter ones occur in any text."""

_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_WORDS = "password|passwd|passphrase|pwd|secret|token|signature|credentials?|sslkey|apikey|accesskey|accountkey"
_SECRET_NAME = re.compile(rf"(?i)({_WORDS}|(^|[-_.])(sig|sign|key|pass|pw|auth|authorization|awsaccesskeyid|sas|jwt))$")
"""Names of URL parameters with a secret: X-Amz-Signature, sig (Azure), X-Goog-Credential, sslpassword ..."""

_PORT = r"\d{1,5}(?=[/?#]|[,.;:)\]}>]*(?:\s|$))"
_NAME = r"[A-Za-z][A-Za-z0-9+.-]*"
_SCHEME = re.compile(rf"(?<![A-Za-z0-9+.-])(?:{_NAME}(?:://[^\s:@]*)?::)*{_NAME}://")
"""Start of a URL; fsspec chains several: zip://a.csv::https://..."""

_HOST = re.compile(rf"(?:localhost|\d+(?:\.\d+){{3}}|\[[0-9A-Fa-f:.]*\])(?::{_PORT}|(?=[^\w:@-]|$))")
"""Authority that can only be a host: an @ after it belongs to the path."""

_OPEN = re.compile(rf"[^:/?#\s'\"<>]*:(?!{_PORT}).")
"""`user:p`: the text after the colon is not a port, so it is a password, even if its @ was cut off."""

_PASSWORD = re.compile(r"(?s)(?!/|user:password@)[^:]*:.*@")
_USER = re.compile(r"[^/?#@]*@")
_NO_SLASHES = re.compile(r"(?<![\w+./:@-])([A-Za-z][A-Za-z0-9+.-]+:)[^\s/?#:@]+:\S+@")
_ENCODED = re.compile(r"(?i)[a-z](?:[a-z0-9+.-]|%(?:25)*2B){0,40}%(?:25)*3A(?:%(?:25)*2F){2}[^\s'\"<>&]*")
_PARAMETER = re.compile(r"[?&;#]([^=?&;#]+)=")
_IN_QUERY = re.compile(r"([?&;#])([^\s=?&;#]+)=([^\s&;'\"<>]+)")
_ASSIGNED = re.compile(
    rf"(?i)(?<![\w.-])([\w.-]*(?:{_WORDS})(?:\s*=\s*|%3D|['\"]\s*:\s*))('[^']*'|\"[^\"]*\"|[^\s,;&)'\"]+)"
)


def has_secret(url: str) -> bool:
    """Return whether a URL contains a password, a token as user, or a parameter named like a key or a signature."""
    scheme, remainder = _split_scheme(url)
    token = scheme.lower().startswith("http") and _USER.match(remainder)
    return bool(_find_password_end(scheme, remainder) or token or _NO_SLASHES.match(url) or _list_secret_values(url))


def has_secret_in_text(text: str) -> bool:
    """Return whether a URL in a text contains a secret."""
    return any(has_secret(text[start:end]) for start, end in _iter_urls(text))


def hide_secrets(url: str) -> str:
    """Return a URL that is safe to print and store: without user, password, and a query that contains a secret."""
    scheme, remainder = _split_scheme(url)
    if not scheme:
        remainder = _NO_SLASHES.sub(r"\1", remainder)
    end = _find_password_end(scheme, remainder)
    if _list_secret_values(remainder[:end]):
        return scheme + MASK  # an @ in the query may belong to the host or to the secret
    remainder = remainder[end:]
    if scheme and not remainder.startswith("user:password@") and (user := _USER.match(remainder)):
        remainder = remainder[user.end() :]
    return scheme + (re.split("[?;#]", remainder)[0] if _list_secret_values(remainder) else remainder)


def hide_secrets_in_text(text: str, *urls: str) -> str:
    """Return a text in which every URL is safe to print.

    Secrets are also masked outside of URLs, in any form: truncated, quoted or percent-encoded. These are the secrets
    of `urls`, those of URLs in environment variables, and the values of variables that are named like a secret.
    """
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_VALUE and _is_secret_name(name) and name not in ("PWD", "OLDPWD")
    }
    secrets = {*_iter_secret_forms(urls), *_iter_secret_forms(os.environ.values()), *values}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    parts, position = list[str](), 0
    for start, end in [*_iter_urls(text), (len(text), len(text))]:
        between = _NO_SLASHES.sub(r"\1", text[position:start])
        parts += [_ENCODED.sub(_hide_encoded, between), hide_secrets(text[start:end])]
        position = end
    text = "".join(parts)
    text = _IN_QUERY.sub(lambda pair: f"{pair[1]}{pair[2]}={MASK}" if _is_secret_name(pair[2]) else pair[0], text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)


def _split_scheme(url: str) -> tuple[str, str]:
    """Return the scheme of a URL with ://, and the remainder; without a scheme the remainder is the whole URL."""
    scheme = _SCHEME.match(url)
    return (scheme[0], url[scheme.end() :]) if scheme else ("", url)


def _find_password_end(scheme: str, remainder: str) -> int:
    """Return the end of `user:password@` at the start of a URL's remainder, or 0 without a password."""
    if not scheme or _HOST.match(remainder):
        return 0
    if password := _PASSWORD.match(remainder):
        return password.end()
    cut = _OPEN.match(remainder)
    is_cut = cut and cut[0][-1] not in "/?#" and not remainder.startswith("user:password@")
    return len(remainder) if is_cut else 0


def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(unquote(name)))


def _list_secret_values(url: str) -> list[str]:
    """Return, for each parameter of a URL that is a secret or a URL with a secret, the text from its value to the end.

    The value is not cut at & or #, since an unencoded one may belong to the secret.
    """
    values = list[str]()
    for parameter in _PARAMETER.finditer(url):
        value = url[parameter.end() :]
        inner_url = _decode_fully(re.split("[&;#]", value)[0])
        if value and (_is_secret_name(parameter[1]) or ("://" in inner_url and has_secret(inner_url))):
            values.append(value)
    return values


def _decode_fully(text: str) -> str:
    """Return a text without percent-encoding, even if it was encoded several times."""
    while (decoded := unquote(text)) != text:
        text = decoded
    return text


def _hide_encoded(match: re.Match[str]) -> str:
    decoded = _decode_fully(match[0])
    return quote(hide_secrets(decoded), safe="") if has_secret(decoded) else match[0]


def _iter_urls(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each URL in a text."""
    position = 0
    while scheme := _SCHEME.search(text, position):
        position = _find_url_end(text, scheme)
        yield scheme.start(), position


def _find_url_end(text: str, scheme: re.Match[str]) -> int:
    """Return the end of the URL that starts with `scheme`.

    A password may contain spaces and quotes, so the search for the end begins after the last @ before the next URL or
    the end of the line.
    """
    line_end = text.find("\n", scheme.end())
    remainder = text[scheme.end() : line_end if line_end >= 0 else None]
    quote_sign = text[scheme.start() - 1 : scheme.start()]
    if quote_sign in ("'", '"') and (end := re.search(rf"(?<!\\){quote_sign}(?=[\s,\]}}):;.]|$)", remainder)):
        return scheme.end() + end.start()
    at = -1
    if _OPEN.match(remainder) and not _HOST.match(remainder):
        next_url = re.search(rf"[\s'\"(\[,=|<>]{_SCHEME.pattern}", remainder)
        at = remainder.rfind("@", 0, next_url.start() if next_url else None)
        at = at if at >= 0 else remainder.rfind("@")
    word = re.compile(r"[^\s'\"<>]*").match(remainder, at + 1)
    return scheme.end() + (word.end() if word else len(remainder))


def _iter_secret_forms(texts: Iterable[str]) -> Iterator[str]:
    """Yield the secrets of every URL in the texts, in each form in which a library may repeat them."""
    for text in (text for text in texts if "://" in text):
        for start, end in {(0, len(text)), *_iter_urls(text)}:
            scheme, remainder = _split_scheme(text[start:end])
            userinfo = remainder[: _find_password_end(scheme, remainder)].removesuffix("@")
            for secret in (userinfo.partition(":")[2], *_list_secret_values(text[start:end])):
                forms = {secret, unquote(secret), quote(unquote(secret), safe=""), quote(unquote(secret))}
                forms |= {repr(secret)[1:-1], json.dumps(secret)[1:-1]}
                forms |= {piece for form in forms for piece in re.split(r"[/?#@:%&;=\s]+", form)}
                yield from (form for form in forms if len(form) >= SHORTEST_SECRET and form != MASK)


def verify_no_secret(url: str, key: str, remedy: str) -> str:
    """Return the URL given as `key`; raise SecretInAddress, with a remedy, if it contains a secret."""
    if has_secret(url):
        raise SecretInAddress(
            f"{key} holds a password, a key or a signature, and MLflow stores parameters permanently. {remedy} If you "
            "passed it to `mlflow run`, the new run has recorded it: replace the secret, or delete that run (mlflow "
            "runs delete, then mlflow gc). Write an @ that belongs to a path as %40."
        )
    return url


def parse_data_url(url: str) -> str:
    """Return the URL of a table, given as a parameter; raise SecretInAddress if it contains a secret."""
    return verify_no_secret(
        url, "file_url", "Put the URL into an environment variable and name the variable: file_url=env:DATA_URL."
    )


def resolve_url(url: str) -> str:
    """Return the URL in the variable that `url` names (env:NAME), else `url`; raise BadParameter if it is not set."""
    if not url.startswith(VARIABLE_PREFIX):
        return url
    name = url.removeprefix(VARIABLE_PREFIX)
    if not _VARIABLE.fullmatch(name):
        raise BadParameter(f"'{url}' names no environment variable. Write env:NAME, as in env:DATA_URL.")
    if value := os.environ.get(name):
        return value
    raise BadParameter(f"{url}: the environment variable {name} is not set where the step runs. Set it there.")


def to_recorded_url(url: str) -> str:
    """Return the part of a URL that is recorded on a run; for a URL in a variable, never a query."""
    safe_url = hide_secrets(resolve_url(url))
    return re.split("[?;#]", safe_url)[0] if url.startswith(VARIABLE_PREFIX) else safe_url


def format_error(error: BaseException) -> str:
    """Return the text of an error without secrets; a StepError starts with its class, as listed in docs/faults.md."""
    return hide_secrets_in_text(f"{type(error).__name__}: {error}" if isinstance(error, StepError) else str(error))
