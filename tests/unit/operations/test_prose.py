"""The prose check finds each kind of hard text, and leaves plain text and identifiers alone."""

import pytest

from ci.prose import LONGEST_SENTENCE, find_problems, read_python


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("The step is run\nanew.", 1, "'anew': use a plainer word"),
        ("X is no file.", 0, "'is no file': use a plainer word"),
        ("What is read is kept.", 0, "'What is': name the subject"),
        ("It returns the rows and whether they fit.", 0, "'and whether they': name the subject"),
        ("word " * (LONGEST_SENTENCE + 1), 0, "split the sentence"),
    ],
)
def test_a_hard_text_is_reported_with_its_line(text: str, line: int, problem: str) -> None:
    ((found_line, advice),) = find_problems(text)
    assert found_line == line
    assert problem in advice


@pytest.mark.parametrize(
    "text",
    [
        "The file is no longer needed. Ask what to do.",
        "The signal `columns_gone` and columns_gone are names; `told` is code.",
        "```\nnobody told\n```\nThe rest is plain.",
        "word " * LONGEST_SENTENCE + "\n\n" + "word " * LONGEST_SENTENCE,
    ],
)
def test_a_plain_text_has_no_problem(text: str) -> None:
    assert list(find_problems(text)) == []


def test_docstrings_messages_and_comments_are_read_with_their_lines() -> None:
    source = '"""A page."""\n# why it is so\nname = f"{name} is no {1 + 1} file"\n'
    assert list(read_python(source)) == [(1, "A page."), (3, "x is no x file"), (2, "why it is so")]
