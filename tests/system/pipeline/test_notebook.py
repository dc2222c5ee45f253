"""Examples of scoring requests: the notebook and the curl commands of the pages."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prediction_log.read import read_log
from stepkit.paths import ROOT
from tests.conftest import run_command
from tests.support.scoring_servers import Server, make_log_url, start_scorer
from tests.support.trained_champion import Champion, register_two_versions

NOTEBOOK = ROOT / "serve" / "real_time_inference.ipynb"
ASKED_IN_NOTEBOOK = 1 + 7 + 7 + 200
"""Rows that the cells of the notebook send for scoring."""

RUNNER = """
import json, sys
cells = json.load(open(sys.argv[1], encoding="utf-8"))["cells"]
names = {"__name__": "notebook"}
for number, cell in enumerate(cells):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell-{number}", "exec"), names)
print(json.dumps([names[name] for name in sys.argv[2:]], default=int))
"""
"""Program that executes the code cells of a notebook in one namespace, like a kernel, and prints variables by name."""


@pytest.fixture(scope="module")
def champion(store: str, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return register_two_versions("examples", tmp_path_factory.mktemp("champion"))


@pytest.fixture(scope="module")
def running(champion: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("running")
    with start_scorer(folder, champion.name) as server:
        yield server, folder


def test_the_cells_of_the_notebook_run_and_are_on_record(running: tuple[Server, Path], tmp_path: Path) -> None:
    server, folder = running
    shown = ["prediction", "request_id", "predictions", "results"]
    ended = run_command(
        sys.executable, "-I", "-c", RUNNER, str(NOTEBOOK), *shown, cwd=tmp_path, SCORER_URL=server.url
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    prediction, request_id, predictions, results = json.loads(ended.stdout)
    assert results == ["new", "repeated"]
    logged = read_log(make_log_url(folder), labels=True)
    first = logged[logged["request_id"] == request_id]
    assert first[["probability", "predicted", "label"]].to_numpy().tolist() == [[*prediction.values(), 0]]
    assert len(logged) == ASKED_IN_NOTEBOOK
    assert len({prediction["probability"] for prediction in predictions}) > 1, "the delay matters"


def test_the_notebook_holds_no_output_and_no_place_of_a_machine() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert {cell["execution_count"] for cell in code} == {None}
    words = "".join(word for cell in cells for word in cell["source"])
    assert not re.search(r"/(home|root|Users|tmp|work)/", words)


@pytest.mark.parametrize("page", ["README.md", "docs/serve.md"])
def test_the_curl_line_gets_predictions(page: str, champion: Champion, running: tuple[Server, Path]) -> None:
    server, _ = running
    (line,) = re.findall(r"^curl .*/invocations.* -d @.*$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    file = re.findall(r"-d @(\S+)", line)[0]
    ended = run_command(*shlex.split(line.replace(":5000", server.url.removeprefix("http://127.0.0.1"))), cwd=ROOT)
    head, _, body = ended.stdout.replace("\r", "").partition("\n\n")
    assert head.startswith("HTTP/1.1 200"), ended.stdout
    assert "x-model-version: 1" in head
    assert len(json.loads(body)["predictions"]) == len(json.loads((ROOT / file).read_text())["dataframe_records"])
