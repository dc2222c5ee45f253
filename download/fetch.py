"""Download of a file from a URL (http, https, file, s3 and others) or a path, with time limits and retries."""

from __future__ import annotations

import logging
import re
import time
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
import fsspec
from fsspec.callbacks import Callback
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from stepkit.errors import DownloadFailed
from stepkit.secret_urls import hide_secrets, hide_secrets_in_text

log = logging.getLogger("step")

SECONDS_BETWEEN_LINES = 2.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 20.0
MAGIC = {
    b"PK\x03\x04": (".zip", ".xlsx"),
    b"PAR1": (".parquet",),
    b"PARE": (".parquet",),
    b"\xd0\xcf\x11\xe0": (".xls",),
    b"\x1f\x8b": (".csv.gz", ".gz"),
}
"""First bytes of each format, and the endings of file names that go with them."""


class TransferInterrupted(Exception):
    """Failure of a transfer that may succeed on another try."""


class Progress(Callback):  # type: ignore[misc]  # fsspec ships no types
    """Progress of a transfer, logged every few seconds."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.logged_at = time.monotonic()

    def call(self, hook_name: str | None = None, **kwargs: object) -> None:
        """Log the progress; fsspec calls this method for every block."""
        if time.monotonic() - self.logged_at > SECONDS_BETWEEN_LINES:
            self.logged_at = time.monotonic()
            total = f" of {self.size / 1e6:,.1f}" if self.size else ""
            log.info("%s: %.1f%s MB", self.name, self.value / 1e6, total)


def fetch(url: str, folder: Path, attempts: int, stall_seconds: float, name: str = "") -> Path:
    """Download a file into `folder` and return its path, whose ending matches the format.

    Args:
        url: a URL that fsspec supports, or a path.
        folder: created if missing.
        attempts: number of tries, with growing pauses between them (1, 2, 4 ... 20 s).
        stall_seconds: time without data after which a try counts as failed.
        name: name of the URL in messages, for a URL that contains a secret.

    Raises:
        DownloadFailed: the file was not found, the server refused it, or every try failed.
    """
    target = folder / (make_file_name(url) + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    retry = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        retry=retry_if_exception_type(TransferInterrupted),
        before_sleep=_log_retry,
    )
    try:
        retry(_transfer_with_safe_errors, url, name or hide_secrets(url), target, stall_seconds)
    except RetryError as error:
        cause = error.last_attempt.exception()
        raise DownloadFailed(
            f"{name or hide_secrets(url)}: failed on each of {attempts} tries (last error: {cause}). Try again later, "
            "or increase download.attempts or download.stall_seconds."
        ) from cause
    return rename_by_format(target.rename(target.with_suffix("")))


def _log_retry(state: RetryCallState) -> None:
    cause = state.outcome and state.outcome.exception()
    log.info("try %d failed: %s; next try in %.1f s", state.attempt_number, cause, state.upcoming_sleep)


def make_file_name(url: str) -> str:
    """Return the last part of a URL's path, "download" if there is none."""
    return Path(unquote(urlsplit(hide_secrets(url)).path)).name or "download"


def _transfer_with_safe_errors(url: str, name: str, target: Path, stall_seconds: float) -> None:
    """Transfer, and replace the URL by `name` in error messages: libraries repeat the URL, with its secrets."""
    try:
        _transfer(url, target, stall_seconds)
    except (DownloadFailed, TransferInterrupted) as error:
        query = url.partition("?")[2].partition("#")[0] if "?" not in name else ""
        text = hide_secrets_in_text(str(error).replace(url, name), url)
        raise type(error)(text.replace(query, "...") if query else text) from None


def _transfer(url: str, target: Path, stall_seconds: float) -> None:
    target.unlink(missing_ok=True)
    progress = Progress(make_file_name(url))
    try:
        system, path = fsspec.core.url_to_fs(url, **_make_options(url, stall_seconds))
        system.get_file(path, str(target), callback=progress)
    except FileNotFoundError as error:
        raise DownloadFailed(f"{url}: not found (404 or no such file). Check data.file_url.") from error
    except aiohttp.TooManyRedirects as error:
        raise DownloadFailed(
            f"{url}: redirects in a loop ({len(error.history)} times). Open it in a browser and check data.file_url."
        ) from error
    except aiohttp.ClientResponseError as error:
        # a server error (5xx, too many requests) may be temporary; any other client error (4xx) is not
        if error.status >= 500 or error.status in (408, 429):
            raise TransferInterrupted(f"the server answered {error.status} {error.message}") from error
        raise DownloadFailed(
            f"{url}: the server answered {error.status} {error.message}. Check data.file_url and your permissions."
        ) from error
    except (TimeoutError, fsspec.exceptions.FSTimeoutError) as error:
        raise TransferInterrupted(f"no data for {stall_seconds:g} s") from error
    except aiohttp.ClientPayloadError as error:
        total = f"{progress.size:,}" if progress.size else "an unknown number of"
        raise TransferInterrupted(f"cut off after {progress.value:,} of {total} bytes (ClientPayloadError)") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise TransferInterrupted(f"{type(error).__name__}: {error}") from error
    except (ImportError, ValueError, OSError) as error:
        raise DownloadFailed(f"{url}: cannot be read ({error}). Check data.file_url.") from error
    if not target.is_file():
        raise DownloadFailed(f"{url}: a folder, not a file. Set data.file_url to the table in it.")


def _make_options(url: str, stall_seconds: float) -> dict[str, object]:
    if not url.startswith(("http://", "https://")):
        return {}
    limits = aiohttp.ClientTimeout(total=None, sock_connect=stall_seconds, sock_read=stall_seconds)
    # fsspec caches file systems: a cached one would have the time limits of an earlier call
    return {
        "client_kwargs": {"timeout": limits, "raise_for_status": partial(_verify_whole_file, url)},
        "skip_instance_cache": True,
    }


async def _verify_whole_file(url: str, response: aiohttp.ClientResponse) -> None:
    """Raise DownloadFailed for 204, 206, 304 and other successes without the whole file; fsspec handles errors."""
    if response.status >= 400 or response.status in (200, 203):
        return
    text = f"{response.status} {response.reason}"
    if part := re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "")):
        text += f": a part, {int(part[2]) - int(part[1]) + 1} of {part[3].replace('*', 'an unknown number of')} bytes"
    raise DownloadFailed(f"{url}: the server answered {text}, not the whole file. Check data.file_url.")


def rename_by_format(path: Path) -> Path:
    """Return `path`, renamed if its ending does not match the format of its first bytes.

    A server may send another format than the name suggests: an error page for a .zip, or an unpacked .gz.
    """
    with path.open("rb") as file:
        start = file.read(512)
    text: tuple[str, ...] = () if b"\0" in start else (".csv",)
    endings = next((endings for magic, endings in MAGIC.items() if start.startswith(magic)), text)
    if ".zip" in endings:
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            endings = (".xlsx",) if "xl/workbook.xml" in archive.namelist() else endings
    if not endings or path.name.lower().endswith(endings):
        return path
    return path.rename(path.with_name(path.name + endings[0]))
