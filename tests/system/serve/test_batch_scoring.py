"""Batch scoring gives the model's own predictions, a complete output or none, and scores no chunk twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.measuring import measure_cost
from serve.batch.checkpoint import Checkpoint
from serve.batch.run import INTERRUPTED_STATUS, main
from serve.model import fetch_model
from serve.model.onnx_graph import MAX_DIFFERENCE
from stepkit.paths import ROOT
from stepkit.table.columns import read_columns
from stepkit.table.tables import to_model_input
from tests.conftest import StepResult, make_command_env, run_command
from tests.support.forkserver_script import start_warm_script
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion, make_clients_with_gaps, register_two_versions

ROWS = 500
CHUNK_ROWS = 100
MANY_COPIES = 60
"""Copies of the table in one file, so that a run can be killed in the middle."""

FEATURES = read_columns(ROOT / "data" / "uci.yaml")
Score = Callable[..., StepResult]


@pytest.fixture(scope="module")
def champion(store: str, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return register_two_versions("batch-scoring", tmp_path_factory.mktemp("champion"))


@pytest.fixture(autouse=True)
def first_is_champion(champion: Champion) -> None:
    champion.promote("1")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_clients_with_gaps(ROWS, seed=3)


@pytest.fixture
def source(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "clients.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def long_source(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "many.csv"
    pd.concat([table] * MANY_COPIES).to_csv(path, index=False)
    return path


@pytest.fixture
def score(champion: Champion, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Score:
    """Function that runs the entry point in this process, which has MLflow loaded and needs no child process."""
    monkeypatch.setattr(fetch_model, "fetch_in_subprocess", fetch_model.fetch_and_verify)

    def call(**flags: object) -> StepResult:
        status = 0
        try:
            main(build_arguments(champion, **flags))
        except SystemExit as exit_error:
            status = int(exit_error.code or 0)
        output = capfd.readouterr()
        return StepResult(status, output.err.strip(), output.out)

    return call


def build_arguments(champion: Champion, **flags: object) -> list[str]:
    all_flags = {"model": f"models:/{champion.name}@champion", "chunk_rows": CHUNK_ROWS, **flags}
    return [word for name, value in all_flags.items() for word in (f"--{name}", str(value))]


def predict_with_mlflow(champion: Champion, table: pd.DataFrame, version: str = "1") -> pd.DataFrame:
    """Return the predictions of the registered model in MLflow."""
    model = mlflow.pyfunc.load_model(f"models:/{champion.name}/{version}")
    predictions: pd.DataFrame = model.predict(to_model_input(table, FEATURES))
    return predictions


def assert_equal_scores(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(actual) == len(expected)
    assert np.abs(actual["probability"].to_numpy() - expected["probability"].to_numpy()).max() < MAX_DIFFERENCE
    assert actual["class"].tolist() == expected["class"].tolist()


def read_output(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"ID": str})


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_mlflow_run_scores_a_table_as_the_model_does(
    champion: Champion, source: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    output = tmp_path / "scored.csv"
    parameters = {"input": source, "output": output, "model": f"models:/{champion.name}@champion"}
    result = run_command(
        *("mlflow", "run", "./serve", "-e", "batch", "--env-manager", "local"),
        *(word for name, value in parameters.items() for word in ("-P", f"{name}={value}")),
    )
    assert result.returncode == 0, result.stderr
    assert f"scored 500 of 500 rows with version 1 of {champion.name}" in result.stdout
    output_table = read_output(output)
    assert output_table.columns.tolist() == ["ID", "probability", "class", "model_version"]
    assert output_table["ID"].tolist() == table["ID"].tolist()
    assert set(output_table["model_version"]) == {1}
    assert_equal_scores(output_table, predict_with_mlflow(champion, table))
    assert "█" not in result.stderr + result.stdout, "the progress bar is only for terminals"


@pytest.mark.parametrize("into", [".csv", ".parquet"])
@pytest.mark.parametrize("out_of", [".csv", ".parquet"])
def test_both_formats_give_the_same_answers(
    champion: Champion, score: Score, table: pd.DataFrame, tmp_path: Path, out_of: str, into: str
) -> None:
    source, output = tmp_path / f"clients{out_of}", tmp_path / f"scored{into}"
    table.to_csv(source, index=False) if out_of == ".csv" else table.to_parquet(source, index=False)
    result = score(input=source, output=output)
    assert result.status == 0, result.message
    assert result.message == ""
    assert read_output(output)["ID"].tolist() == table["ID"].tolist()
    assert_equal_scores(read_output(output), predict_with_mlflow(champion, table))
    assert list_names(tmp_path) == {source.name, output.name}


def test_columns_may_stand_in_any_order_and_the_kept_ones_are_chosen(
    score: Score, table: pd.DataFrame, tmp_path: Path
) -> None:
    source, output = tmp_path / "clients.csv", tmp_path / "scored.csv"
    table[sorted(table.columns)].assign(note='a "b", c').to_csv(source, index=False)
    output_columns = ["probability", "class", "model_version"]
    for keep, copied in (
        ("others", ["ID", "note"]),
        ("none", []),
        ("AGE,ID", ["AGE", "ID"]),
        ("all", [*sorted(table.columns), "note"]),
    ):
        assert score(input=source, output=output, keep=keep).status == 0
        assert read_output(output).columns.tolist() == [*copied, *output_columns]
        for name in copied:
            assert read_output(output)[name].equals(read_output(source)[name]), name


WARM = """
from serve.batch import run
from serve.model import fetch_model
fetch_model.fetch_in_subprocess = fetch_model.fetch_and_verify
run.main()
"""
"""The entry point, for a process that has MLflow loaded."""

BATCH = (sys.executable, "-P", "-m", "serve.batch.run")


def kill_in_the_middle(champion: Champion, source: Path, output: Path) -> None:
    """Start a run with many chunks, and kill it after some are finished."""
    parts = output.with_name(f".{output.name}.parts")
    with start_warm_script(WARM, *build_arguments(champion, input=source, output=output)) as script:
        process = script.process
        wait_until(
            lambda: (parts / "00000003.arrow").exists() or process.poll() is not None, "some chunks are finished"
        )
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL, f"the run result before it could be killed: {script.said}"
    assert not output.exists()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    champion: Champion, score: Score, long_source: Path, tmp_path: Path, ending: str
) -> None:
    uninterrupted, output = tmp_path / f"uninterrupted{ending}", tmp_path / f"scored{ending}"
    assert score(input=long_source, output=uninterrupted).status == 0
    kill_in_the_middle(champion, long_source, output)
    result = score(input=long_source, output=output)
    assert result.status == 0, result.message
    resumed = re.search(r"resuming after row ([\d,]+): (\d+) chunks", result.log)
    assert resumed, result.log
    done = int(resumed[1].replace(",", ""))
    assert done == int(resumed[2]) * CHUNK_ROWS
    total = ROWS * MANY_COPIES
    assert 0 < done < total
    assert f"scored {total - done:,} of {total:,} rows" in result.log
    assert output.read_bytes() == uninterrupted.read_bytes()
    assert list_names(tmp_path) == {long_source.name, uninterrupted.name, output.name}


def test_after_a_changed_input_or_a_new_champion_a_run_starts_anew(
    champion: Champion, score: Score, long_source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scored.csv"
    kill_in_the_middle(champion, long_source, output)
    rows = long_source.read_text().splitlines(keepends=True)
    long_source.write_text("".join([rows[0], *reversed(rows[1:])]))
    champion.promote("2")
    result = score(input=long_source, output=output)
    assert "starting from scratch: input, model version changed" in result.log
    assert "scored 30,000 of 30,000 rows with version 2" in result.log
    assert set(read_output(output)["model_version"]) == {2}
    assert_equal_scores(read_output(output), predict_with_mlflow(champion, read_output(long_source), "2"))


def test_two_runs_never_write_one_output(score: Score, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    checkpoint = Checkpoint(output, {"input": "another"})
    result = score(input=source, output=output)
    assert result.status == 1
    assert result.message.startswith(f"BadParameter: {output}: another process is writing")
    checkpoint.close()
    assert score(input=source, output=output).status == 0


def test_an_old_output_is_replaced_only_by_a_whole_new_one(score: Score, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    output.write_text("old\n")
    valid_table = source.read_text()
    source.write_text(valid_table + valid_table.splitlines()[-1].replace("0", "x") + "\n")
    assert score(input=source, output=output).status == 1
    assert output.read_text() == "old\n"
    source.write_text(valid_table)
    assert score(input=source, output=output).status == 0
    assert len(read_output(output)) == ROWS


def test_a_full_disk_costs_no_finished_chunk(
    champion: Champion, score: Score, long_source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scored.csv"
    words = build_arguments(champion, input=long_source, output=output, keep="all")
    # A file size limit fails like a full disk; the output is larger than any chunk.
    result = run_command("prlimit", f"--fsize={2**20}", *BATCH, *words, cwd=ROOT / "serve", PYTHONPATH="..")
    assert_rejected(StepResult(result.returncode, result.stderr.strip()), "BadParameter", "cannot be written", "resume")
    assert not output.exists()
    resumed = score(input=long_source, output=output, keep="all")
    assert "resuming after row 30,000: 300 chunks are finished" in resumed.log
    assert len(read_output(output)) == ROWS * MANY_COPIES


def drop_column(table: pd.DataFrame, name: str) -> str:
    return str(table.drop(columns=name).to_csv(index=False))


def set_value(table: pd.DataFrame, row: int, name: str, value: str) -> str:
    changed = table.astype(object)
    changed.loc[row, name] = value
    return str(changed.to_csv(index=False))


BAD_TABLES: dict[str, tuple[Callable[[pd.DataFrame], str | bytes], tuple[str, ...]]] = {
    "missing column": (lambda table: drop_column(table, "AGE"), ("TableUnfit", "no column AGE", "found")),
    "text in a number": (
        lambda table: set_value(table, 320, "AGE", "forty"),
        ("TableUnfit", "line 322, column AGE", "'forty'"),
    ),
    "empty file": (lambda table: "", ("TableUnreadable", "empty (0 bytes)")),
    "no rows": (lambda table: table.head(0).to_csv(index=False), ("TableUnreadable", "no rows")),
    "long row": (lambda table: table.to_csv(index=False) + "1," * 30 + "\n", ("TableUnfit", "line 502", "31 fields")),
    "web page": (lambda table: "<!DOCTYPE html><p>not found", ("TableUnreadable", "web page")),
    "not UTF-8": (lambda table: table.assign(ID="ä").to_csv(index=False).encode("latin-1"), ("UTF8", "column ID")),
    "named like an output column": (
        lambda table: table.rename(columns={"ID": "class"}).to_csv(index=False),
        ("BadParameter", "column class", "keep=none"),
    ),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_a_bad_csv_is_refused_and_leaves_nothing(score: Score, table: pd.DataFrame, tmp_path: Path, fault: str) -> None:
    make_content, words = BAD_TABLES[fault]
    content = make_content(table)
    source = tmp_path / "clients.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_rejected(score(input=source, output=tmp_path / "scored.csv"), *words, source.name)
    assert list_names(tmp_path) == {source.name}


def assert_rejected(result: StepResult, *words: str) -> None:
    assert result.status == 1
    assert [word for word in words if word not in result.message] == [], result.message
    assert "Traceback" not in result.message
    assert len(result.message.splitlines()) == 1


@pytest.mark.parametrize("value", [pytest.param([1, 2], id="list"), pytest.param(b'"\xff', id="bytes")])
def test_a_column_that_no_csv_can_hold_is_refused_and_a_parquet_takes_it(
    score: Score, table: pd.DataFrame, tmp_path: Path, value: object
) -> None:
    source, output = tmp_path / "clients.parquet", tmp_path / "scored.csv"
    table.assign(extra=pd.Series([value] * len(table), dtype=object)).to_parquet(source)
    assert_rejected(score(input=source, output=output), "TableUnfit", "column extra", "keep=")
    assert list_names(tmp_path) == {source.name}
    assert score(input=source, output=output.with_suffix(".parquet")).status == 0
    assert score(input=source, output=output, keep="ID").status == 0


def test_a_bad_parquet_is_refused_and_leaves_nothing(score: Score, table: pd.DataFrame, tmp_path: Path) -> None:
    source, output = tmp_path / "clients.parquet", tmp_path / "scored.parquet"
    table.assign(AGE="forty").to_parquet(source)
    assert_rejected(score(input=source, output=output), "TableUnfit", "column AGE", "found string, expected numbers")
    pq.write_table(pq.ParquetFile(source).read().drop_columns("AGE"), source)
    assert_rejected(score(input=source, output=output), "TableUnfit", "no column AGE")
    table.to_parquet(source)
    source.write_bytes(source.read_bytes()[:-100])
    assert_rejected(score(input=source, output=output), "TableUnreadable", "cannot be read as Parquet")
    assert list_names(tmp_path) == {source.name}


BAD_PLACES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "no such file": ({"input": "{folder}/none.csv"}, ("none.csv: no such file", "-P input=")),
    "input is a folder": ({"input": "{folder}/folder.csv"}, ("folder.csv: no such file",)),
    "input ends otherwise": (
        {"input": "{folder}/clients.txt"},
        ("clients.txt: unknown file format", "found '.txt', expected .csv or .parquet"),
    ),
    "output ends otherwise": ({"output": "{folder}/scored.json"}, ("scored.json: unknown file format",)),
    "no output folder": (
        {"output": "{folder}/none/scored.csv"},
        ("none/scored.csv: its folder does not exist", "-P output="),
    ),
    "output is a folder": ({"output": "{folder}/folder.csv"}, ("folder.csv: is a folder",)),
    "output is the input": ({"output": "{folder}/clients.csv"}, ("clients.csv: output and input are the same file",)),
    "output not writable": ({"output": "/proc/scored.csv"}, ("/proc/scored.csv: folder not writable",)),
    "unknown model": ({"model": "models:/nobody@champion"}, ("'models:/nobody@champion' is not in", "make run")),
    "unknown alias": ({"model": "models:/{model}@nobody"}, ("@nobody' is not in the registry",)),
    "unknown version": ({"model": "models:/{model}/77"}, ("/77' is not in the registry",)),
    "no address": ({"model": "model.pkl"}, ("'model.pkl': not a registered model", "models:/NAME@ALIAS")),
    "unknown kept column": ({"keep": "ID,nothing"}, ("keep: ", "clients.csv has no column nothing")),
}


@pytest.mark.parametrize("fault", BAD_PLACES)
def test_a_bad_parameter_is_refused_and_leaves_nothing(
    champion: Champion, score: Score, source: Path, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    flags, words = BAD_PLACES[fault]
    bad_flags = {name: value.format(folder=tmp_path, model=champion.name) for name, value in flags.items()}
    result = score(**{"input": source, "output": tmp_path / "scored.csv", **bad_flags})
    assert_rejected(result, "BadParameter", *words)
    assert list_names(tmp_path) == {source.name, "folder.csv"}


def test_a_registry_that_is_gone_is_named(champion: Champion, source: Path, tmp_path: Path) -> None:
    words = build_arguments(champion, input=source, output=tmp_path / "scored.csv")
    result = run_command(*BATCH, *words, PYTHONPATH="..", MLFLOW_TRACKING_URI="http://127.0.0.1:9", cwd=ROOT / "serve")
    assert_rejected(StepResult(result.returncode, result.stderr.strip()), "TrackingUnreachable", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("to", "by", "status", "message"),
    [
        (
            "group",
            signal.SIGINT,
            INTERRUPTED_STATUS,
            r"interrupted\. Run the same command again to resume after the last finished chunk\.",
        ),
        ("batch", signal.SIGTERM, -signal.SIGTERM, ""),
        ("batch", signal.SIGKILL, -signal.SIGKILL, ""),
        ("fetch", signal.SIGKILL, 1, r"ProcessLost: .* \(status -9\)\. It was killed, .* memory ran out\. .*"),
        ("fetch", signal.SIGTERM, 1, r"ProcessLost: .* \(status -15\)\."),
    ],
    ids=["Ctrl-C", "SIGTERM", "kill -9", "out of memory", "SIGTERM of the model's process"],
)
def test_a_signal_while_the_model_is_fetched_leaves_no_process(
    champion: Champion, source: Path, tmp_path: Path, to: str, by: signal.Signals, status: int, message: str
) -> None:
    command = [*BATCH, *build_arguments(champion, input=source, output=tmp_path / "scored.csv")]
    (tmp_path / "temporary").mkdir()
    env = make_command_env(PYTHONPATH="..", TMPDIR=str(tmp_path / "temporary"))
    process = subprocess.Popen(
        command, cwd=ROOT / "serve", env=env, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    batch = psutil.Process(process.pid)
    wait_until(lambda: bool(batch.children()) or process.poll() is not None, "the model is fetched")
    (fetch,) = batch.children()
    wait_until(lambda: "fetch_model" in " ".join(fetch.cmdline()), "the child process runs fetch_model")
    os.kill({"group": -process.pid, "batch": process.pid, "fetch": fetch.pid}[to], by)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == status, output
    assert re.fullmatch(message, output.strip()), output
    assert psutil.wait_procs([fetch], timeout=30)[1] == []
    assert list_names(tmp_path) == {source.name, "temporary"}
    assert to == "batch" or list_names(tmp_path / "temporary") == set()


def test_memory_does_not_grow_with_the_table(champion: Champion, source: Path, tmp_path: Path) -> None:
    header, *rows = source.read_text().splitlines(keepends=True)
    output = tmp_path / "scored.csv"
    environment = make_command_env(
        PYTHONPATH="..", MALLOC_ARENA_MAX="1", ARROW_DEFAULT_MEMORY_POOL="system"
    )  # MLproject's
    peaks = []
    for copies in (400, 1_000):  # both more than Arrow reads ahead
        large = tmp_path / "large.csv"
        large.write_text(header + "".join(rows) * copies)
        command = [*BATCH, *build_arguments(champion, input=large, output=output, chunk_rows=10_000)]
        peaks.append(measure_cost(command, ROOT / "serve", environment, tmp_path / "output.txt").peak_kb / 1024)
        assert sum(1 for _ in output.open()) == ROWS * copies + 1
    in_memory = ROWS * 600 * 23 * 8 / 2**20
    assert peaks[1] - peaks[0] < in_memory / 2, f"{peaks} MB"
