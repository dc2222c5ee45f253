"""tests.tour.readme: what counts as the same output, and what does not."""

from __future__ import annotations

import pytest

from tests.tour.readme import bare, missing

SAID = (
    "download done in 3.1 s  30,000 rows\nAUC 0.7676\nrun 0123456789abcdef0123456789abcdef\n│ 1 │ 0.77 │ 8.6 │ best │\n"
)


@pytest.mark.parametrize(
    "shown",
    [
        "download   done in 4.8 s   30,000 rows",
        "AUC 0.7676\ndownload done in 1 s 30,000 rows",
        "run ffffffffffffffffffffffffffffffff",
        "│ 1 │ 0.77 │ 5.1 │ best │",
        "download ... rows",
    ],
)
def test_times_ids_and_order_may_differ(shown: str) -> None:
    assert missing(shown, SAID) == []


@pytest.mark.parametrize(
    "shown", ["AUC 0.7677", "download done in 3.1 s 30,001 rows", "│ 2 │ 0.77 │ 8.6 │ best │", "run it"]
)
def test_figures_and_words_may_not(shown: str) -> None:
    assert missing(shown, SAID) == [shown]


def test_a_comment_is_no_part_of_a_command() -> None:
    assert bare("make ui      # MLflow on http://127.0.0.1:5000") == "make ui"
    assert bare("# only a comment") == ""
    assert bare("curl -d @x#y") == "curl -d @x#y"
