"""What keeps a name, a message or a path from being taken for markup, in HTML and in GitHub's Markdown."""

from __future__ import annotations

import re

_STRUCTURE = re.compile(r"[\\`|*\[\]<>&~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Characters that no page may show: controls, and those that turn the direction of what follows them."""

_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
"""In an address: a report is made to be passed on."""

NO_MENTION = "@&#8203;"
"""A name after @ would be called; with a space of no width in between it is not."""


class Safe(str):
    """Markdown that is meant as such."""

    __slots__ = ()


def visible(text: str) -> str:
    """Return a text as anyone may see it: nothing hides or turns what follows, and no address tells a password."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _PASSWORD.sub(r"\1:***@", text))


def markdown(value: object) -> str:
    """Return a value as text of one line, with every character that Markdown would heed as a character reference.

    References are never taken for structure (CommonMark 0.31, section 2.5), so this holds within a table too.
    """
    if isinstance(value, Safe):
        return value
    line = " ".join(visible(str(value)).split())
    return _STRUCTURE.sub(lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line).replace("@", NO_MENTION)


def fenced(text: str) -> Safe:
    """Lines as they stand; no fence in them is as long as the one around them."""
    ticks = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return Safe(f"{fence}text\n{visible(text).rstrip()}\n{fence}")
