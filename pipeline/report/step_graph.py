"""The steps as a picture: where each box and each line goes, across for a wide page and down for a narrow one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pipeline.report.step_states import StepShown

WIDTH, HEIGHT = 142, 58
"""Of a box, in the picture's own units (pixels, where there is room)."""

GAP_ALONG, GAP_ASIDE, MARGIN = 34, 20, 4


@dataclass(frozen=True)
class Box:
    step: StepShown
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """Boxes by their upper left corners, and lines as SVG paths; `down` if it is read from top to bottom.

    Attributes:
        box: width and height of each box.
    """

    down: bool
    width: float
    height: float
    boxes: list[Box]
    lines: list[str]
    box: tuple[float, float] = (WIDTH, HEIGHT)


def picture_of(steps: list[StepShown], down: bool) -> Picture:
    """Lay the steps out by how many must run before them; those that may run side by side stand so."""
    levels = levels_of(steps)
    widest = max((len(level) for level in levels), default=1)
    along, aside = (HEIGHT, WIDTH) if down else (WIDTH, HEIGHT)
    across = widest * (aside + GAP_ASIDE) - GAP_ASIDE
    length = len(levels) * (along + GAP_ALONG) - GAP_ALONG
    boxes = {}
    for number, level in enumerate(levels):
        start = (across - len(level) * (aside + GAP_ASIDE) + GAP_ASIDE) / 2
        for place, step in enumerate(level):
            one, other = MARGIN + start + place * (aside + GAP_ASIDE), MARGIN + number * (along + GAP_ALONG)
            boxes[step.name] = Box(step, one, other) if down else Box(step, other, one)
    size = (across, length) if down else (length, across)
    lines = [_line(boxes[before], boxes[after], down) for before, after in direct_needs(steps)]
    return Picture(down, size[0] + 2 * MARGIN, size[1] + 2 * MARGIN, list(boxes.values()), lines)


def levels_of(steps: list[StepShown]) -> list[list[StepShown]]:
    """Group steps by the longest chain of steps that must run before each."""
    needs = {step.name: list(step.needs) for step in steps}

    @cache
    def depth(name: str) -> int:
        return 1 + max((depth(one) for one in needs[name] if one in needs), default=-1)

    found: list[list[StepShown]] = []
    for step in steps:
        found += [[] for _ in range(depth(step.name) + 1 - len(found))]
        found[depth(step.name)].append(step)
    return found


def direct_needs(steps: list[StepShown]) -> list[tuple[str, str]]:
    """The pairs (before, after) that no other step stands between: the others follow from these."""
    needs = {step.name: set(step.needs) for step in steps}

    @cache
    def behind(name: str) -> frozenset[str]:
        known = needs.get(name, set())
        return frozenset(known).union(*(behind(one) for one in known))

    return [
        (before, after)
        for after in needs
        for before in sorted(needs[after])
        if before in needs and not any(before in behind(other) for other in needs[after] - {before})
    ]


def _line(before: Box, after: Box, down: bool) -> str:
    """A curve from the end of one box to the beginning of the other."""
    if down:
        x1, y1, x2, y2 = before.x + WIDTH / 2, before.y + HEIGHT, after.x + WIDTH / 2, after.y - 5
        middle = (y1 + y2) / 2
        return f"M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"
    x1, y1, x2, y2 = before.x + WIDTH, before.y + HEIGHT / 2, after.x - 5, after.y + HEIGHT / 2
    middle = (x1 + x2) / 2
    return f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
