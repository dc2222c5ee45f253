"""Bodies of requests: of which type they may be, and how much memory they hold together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from serve.errors import Refusal, too_many_bodies

BODIES_AT_ONCE = 4
"""Bodies of the largest size that are held in memory together; further ones wait for one of these to be answered."""

SMALL_BODY = 64 * 1024
"""A body up to this size does not wait: a request of a few rows is answered while others send large ones."""


class BodyMemory:
    """Bytes that the large bodies of unfinished requests may hold together."""

    def __init__(self, size: int, patience: float) -> None:
        self.free = size
        self.patience = patience
        self._waiting: list[asyncio.Future[None]] = []

    async def take(self, size: int) -> None:
        """Wait until `size` bytes are free, and take them.

        Raises:
            Refusal: not free within `patience` seconds.
        """
        try:
            async with asyncio.timeout(self.patience):
                while self.free < size:
                    self._waiting.append(asyncio.get_running_loop().create_future())
                    await self._waiting[-1]
        except TimeoutError:
            raise too_many_bodies() from None
        self.free -= size

    def give_back(self, size: int) -> None:
        self.free += size
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


def media_type_of(header: str | None, accepted: Collection[str]) -> str:
    """Return the type of a body in small letters; case, spaces and quotes of the header change nothing.

    Raises:
        Refusal: 415; there is no header, or another type, charset or parameter in it.
    """
    kind, *parameters = ((header or "").lower()).split(";")
    named = [tuple(part.strip(' \t"') for part in parameter.split("=", 1)) for parameter in parameters]
    if kind.strip() in accepted and {*named} <= {("charset", "utf-8"), ("charset", "utf8"), ("",)}:
        return kind.strip()
    shown = f"'{header[:80]}'" if header else "none"
    message = f"Content-Type: not supported (found {shown}, expected {' or '.join(accepted)}, in UTF-8)."
    raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", message, "Content-Type")
