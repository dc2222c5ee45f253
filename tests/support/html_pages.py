"""Read a page as a browser would, as far as tests ask about it: its elements, their texts, what it refers to."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self

EMPTY = {"meta", "link", "img", "br", "hr", "input"}
"""Elements without an end."""


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    within: tuple[str, ...]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Every element in its order, with the names of those around it; `unclosed` and `misplaced` tags are kept."""

    elements: list[Element] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    @classmethod
    def of(cls, markup: str) -> Self:
        page = cls()
        HTMLParser.__init__(page)
        page.feed(markup)
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(one.name for one in self.open))
        self.elements.append(element)
        if tag not in EMPTY:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1].name != tag:
            self.misplaced.append(tag)
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *names: str) -> list[Element]:
        return [one for one in self.elements if one.name in names]

    def text_of(self, name: str) -> str:
        """The text of the only element of this name."""
        (found,) = self.all(name)
        return " ".join(found.text.split())

    def section(self, id_: str) -> str:
        (found,) = [one for one in self.all("section") if one.attributes.get("id") == id_]
        return " ".join(found.text.split())
