"""Nouns follow their number."""

import pytest

from stepkit.words import pluralize


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (2000, "2,000 rows")])
def test_one_is_singular_and_every_other_number_is_plural(number: int, text: str) -> None:
    assert pluralize(number, "row") == text
