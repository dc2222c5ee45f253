"""tests.tour.pages: the commands of a page, and the comparison of a shown output with a printed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tour import pages
from tests.tour.pages import find_missing_lines, read_commands, read_file_blocks, read_outputs, remove_comment

PRINTED = (
    "download done in 3.1 s  30,000 rows\nAUC 0.7676\nrun 0123456789abcdef0123456789abcdef\n│ 1 │ 0.77 │ 8.6 │ best │\n"
)

PAGE = """\
# A page

```bash
make run       # train
mlflow run . -P a=1 \\
  -P b=2
```

1. In a list:

   ```bash
   make ui
   ```

<!-- shows: make run -->
```text
done in 3 s
```

<!-- file: new/module.py -->
```python
make = "not a command"
```

   <!-- file: table.py, before: ) -->
   ```python
     "row",
   ```
"""


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
    assert find_missing_lines(shown, PRINTED) == []


@pytest.mark.parametrize(
    "shown", ["AUC 0.7677", "download done in 3.1 s 30,001 rows", "│ 2 │ 0.77 │ 8.6 │ best │", "run it"]
)
def test_figures_and_words_may_not_differ(shown: str) -> None:
    assert find_missing_lines(shown, PRINTED) == [shown]


@pytest.mark.parametrize(
    ("line", "command"),
    [("make ui      # on port 5050", "make ui"), ("# only a comment", ""), ("curl -d @x#y", "curl -d @x#y")],
)
def test_a_comment_is_not_part_of_a_command(line: str, command: str) -> None:
    assert remove_comment(line) == command


def test_commands_and_outputs_of_a_page_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    commands = [(command.line, command.text) for command in read_commands("page.md")]
    assert commands == [(4, "make run"), (6, "mlflow run . -P a=1 -P b=2"), (12, "make ui")]
    (output,) = read_outputs("page.md")
    assert (output.command, output.body) == ("make run", "done in 3 s\n")


def test_files_of_a_page_are_written_and_rows_are_inserted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "table.py").write_text('ROWS = (\n"first",\n)\n', encoding="utf-8")
    for block in [*read_file_blocks("page.md"), *read_file_blocks("page.md")]:
        block.write(tmp_path)
    assert (tmp_path / "new" / "module.py").read_text(encoding="utf-8") == 'make = "not a command"\n'
    assert (tmp_path / "table.py").read_text(encoding="utf-8") == 'ROWS = (\n"first",\n  "row",\n)\n'


def test_a_row_without_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "table.py").write_text("ROWS = ()\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not in list"):
        pages.FileBlock("table.py", ")", "row\n").write(tmp_path)
