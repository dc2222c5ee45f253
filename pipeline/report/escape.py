"""Escapes for HTML and GitHub's Markdown, so that no name, message or path is read as markup."""

from __future__ import annotations

import re

from markupsafe import Markup

from stepkit.secret_urls import hide_secrets_in_text

_STRUCTURE = re.compile(r"[\\`|*\[\]<>&~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://|(?i:(?<=www)\.)")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Control characters, zero-width characters, and characters that change the text direction."""

_ZERO_WIDTH_SPACE = "&#8203;"
"""GitHub links neither @name nor #number if this is between them."""


def make_visible(text: str) -> str:
    """Return a text without passwords of URLs, invisible characters or changes of the text direction."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", hide_secrets_in_text(text) if ":" in text else text)


def escape_markdown(value: object) -> str:
    """Return a value as one line of text, with each special character of Markdown as a character reference.

    A reference never becomes structure (CommonMark 0.31, section 2.5), not even in a table. Markup stays unchanged.
    """
    if isinstance(value, Markup):
        return value
    line = " ".join(make_visible(str(value)).split())
    line = _STRUCTURE.sub(lambda match: "".join(f"&#{ord(character)};" for character in match[0]), line)
    return line.replace("@", f"@{_ZERO_WIDTH_SPACE}").replace("&#35;", f"&#35;{_ZERO_WIDTH_SPACE}")


def fence_text(text: str) -> Markup:
    """Return a fenced code block. Its fence is longer than any run of backticks in the text."""
    ticks = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return Markup(f"{fence}text\n{make_visible(text).rstrip()}\n{fence}")
