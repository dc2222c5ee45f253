"""Escapes that keep a name, a message or a path from being read as markup, in HTML and in GitHub's Markdown."""

from __future__ import annotations

import re

from markupsafe import Markup

from stepkit.secret_urls import hide_secrets_in_text

_STRUCTURE = re.compile(r"[\\`|*\[\]<>&~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://|(?i:(?<=www)\.)")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Controls, characters without width, and those that turn the direction of the text after them."""

_APART = "&#8203;"
"""A space without width: GitHub links neither a name after @ nor a number after # if it is in between."""


def make_visible(text: str) -> str:
    """Return a text that anyone may see: no character hides or turns others, no address shows a password."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", hide_secrets_in_text(text) if ":" in text else text)


def escape_markdown(value: object) -> str:
    """Return a value as text of one line, with every character that Markdown would heed as a character reference.

    References are never taken for structure (CommonMark 0.31, section 2.5), so this holds within a table too.
    Markup is meant as such.
    """
    if isinstance(value, Markup):
        return value
    line = " ".join(make_visible(str(value)).split())
    line = _STRUCTURE.sub(lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line)
    return line.replace("@", f"@{_APART}").replace("&#35;", f"&#35;{_APART}")


def fence_text(text: str) -> Markup:
    """Return lines as they are; no fence in them is as long as the one around them."""
    ticks = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return Markup(f"{fence}text\n{make_visible(text).rstrip()}\n{fence}")
