"""Bring a file from an address to a folder: http(s), file, s3 and the like, with time limits and retries."""

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
"""The first bytes of a format, and the endings that a file's name may have then."""


class TransferInterrupted(Exception):
    """The transfer failed in a way that another try may mend."""


class Progress(Callback):  # type: ignore[misc]  # fsspec ships no types
    """Logs how much has arrived, every few seconds."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.spoke = time.monotonic()

    def call(self, hook_name: str | None = None, **kwargs: object) -> None:
        if time.monotonic() - self.spoke > SECONDS_BETWEEN_LINES:
            self.spoke = time.monotonic()
            whole = f" of {self.size / 1e6:,.1f}" if self.size else ""
            log.info("%s: %.1f%s MB", self.name, self.value / 1e6, whole)


def fetch(url: str, folder: Path, attempts: int, stall_seconds: float, name: str = "") -> Path:
    """Copy what `url` names into `folder` and return the file, its name ending with its format.

    Args:
        url: an address that fsspec knows, or a path.
        attempts: how often a broken or refused transfer is begun, with growing pauses (1, 2, 4 ... 20 s).
        stall_seconds: how long a server may send nothing before the try counts as broken.
        name: what the address is called in messages, if it may not be told itself.

    Raises:
        DownloadFailed: not found, refused, or broken on every try.
    """
    target = folder / (make_file_name(url) + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    again = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        retry=retry_if_exception_type(TransferInterrupted),
        before_sleep=_log_retry,
    )
    try:
        again(_transfer_with_safe_errors, url, name or hide_secrets(url), target, stall_seconds)
    except RetryError as error:
        cause = error.last_attempt.exception()
        raise DownloadFailed(
            f"{name or hide_secrets(url)} failed on each of {attempts} tries; the last: {cause}. Try again later, or with "
            "more patience: download.attempts, download.stall_seconds."
        ) from cause
    return rename_by_format(target.rename(target.with_suffix("")))


def _log_retry(state: RetryCallState) -> None:
    cause = state.outcome and state.outcome.exception()
    log.info("try %d failed: %s; the next in %.1f s", state.attempt_number, cause, state.upcoming_sleep)


def make_file_name(url: str) -> str:
    return Path(unquote(urlsplit(hide_secrets(url)).path)).name or "download"


def _transfer_with_safe_errors(url: str, name: str, target: Path, stall_seconds: float) -> None:
    """Transfer, and call the address by `name` in whatever goes wrong: libraries repeat it in their messages."""
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
        raise DownloadFailed(f"nothing found at {url} (404 or no such file). Check data.file_url.") from error
    except aiohttp.TooManyRedirects as error:
        raise DownloadFailed(
            f"{url} redirects in a loop ({len(error.history)} times). Open it in a browser and check data.file_url."
        ) from error
    except aiohttp.ClientResponseError as error:
        # an error of the server (5xx, too many requests) may pass; a refusal (4xx) will not
        if error.status >= 500 or error.status in (408, 429):
            raise TransferInterrupted(f"the server answered {error.status} {error.message}") from error
        raise DownloadFailed(
            f"{url} was refused: {error.status} {error.message}. Check the address and your rights."
        ) from error
    except (TimeoutError, fsspec.exceptions.FSTimeoutError) as error:
        raise TransferInterrupted(f"no data for {stall_seconds:g} s") from error
    except aiohttp.ClientPayloadError as error:
        whole = f"{progress.size:,}" if progress.size else "an unknown number of"
        raise TransferInterrupted(f"cut off after {progress.value:,} of {whole} bytes (ClientPayloadError)") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise TransferInterrupted(f"{type(error).__name__}: {error}") from error
    except (ImportError, ValueError, OSError) as error:
        raise DownloadFailed(f"{url} cannot be read: {error}. Check data.file_url.") from error
    if not target.is_file():
        raise DownloadFailed(f"{url} is a folder, not a file. Name the table in it: data.file_url.")


def _make_options(url: str, stall_seconds: float) -> dict[str, object]:
    if not url.startswith(("http://", "https://")):
        return {}
    limits = aiohttp.ClientTimeout(total=None, sock_connect=stall_seconds, sock_read=stall_seconds)
    # a cached file system would carry the time limits of an earlier call
    return {
        "client_kwargs": {"timeout": limits, "raise_for_status": partial(_verify_whole_file, url)},
        "skip_instance_cache": True,
    }


async def _verify_whole_file(url: str, response: aiohttp.ClientResponse) -> None:
    """Raise DownloadFailed for a success that is not the whole file: 204, 206, 304; errors are fsspec's."""
    if response.status >= 400 or response.status in (200, 203):
        return
    text = f"{response.status} {response.reason}"
    if part := re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "")):
        text += f": a part, {int(part[2]) - int(part[1]) + 1} of {part[3].replace('*', 'an unknown number of')} bytes"
    raise DownloadFailed(f"{url}: the server answered {text}, not the whole file. Check data.file_url.")


def rename_by_format(path: Path) -> Path:
    """Return `path`, renamed to end as its first bytes say where its name does not.

    A server may send something else than the name promises: an error page for a .zip, a .gz unpacked on the way.
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
