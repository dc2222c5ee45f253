"""Parser of an HTML page for tests: elements, texts and attributes."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

EMPTY = {"meta", "link", "img", "br", "hr", "input"}
"""Elements without an end."""


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    text: str = ""


class Page(HTMLParser):
    """All elements in order, the elements left `open`, and the `misplaced` end tags."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.misplaced: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1].name == tag:
            self.open.pop()
        else:
            self.misplaced.append(tag)

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *names: str) -> list[Element]:
        return [element for element in self.elements if element.name in names]

    def get_text(self, name: str, **attributes: str) -> str:
        """Return the text of the only element of this name with these attributes."""
        (element,) = [candidate for candidate in self.all(name) if attributes.items() <= candidate.attributes.items()]
        return " ".join(element.text.split())

    def get_section(self, id_: str) -> str:
        return self.get_text("section", id=id_)
