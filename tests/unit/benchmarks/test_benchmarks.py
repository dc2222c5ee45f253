"""benchmarks/: ratios and goals, the table of results, and the plain script."""

from __future__ import annotations

import os
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
from mlflow.entities import Run

from benchmarks import plain, serving, speed
from benchmarks.load import Load, build_post, drive_for, parse_length
from benchmarks.measuring import (
    Comparison,
    Goal,
    MeasurementFailed,
    Result,
    Side,
    Store,
    make_benchmark_parser,
    measure_cost,
    take_turns,
    write_results,
)
from benchmarks.size import drop_repeated_clients, get_folder, watch_memory
from benchmarks.speed import Bench, choose_data
from preprocess.run import clean_table
from stepkit.paths import ROOT
from stepkit.table.columns import read_columns
from tests.support.repo import find_reachable, get_first_parts, list_imports, read_yaml
from tests.support.small_data import CLIENTS

AT_LEAST = Goal("a", "something", ("slow", "fast"), 3.0, at_least=True)
AT_MOST = Goal("b", "another", ("ours", "theirs"), 1.5)


@pytest.mark.parametrize(
    ("goal", "pairs", "judged"),
    [
        (AT_LEAST, [(9.0, 3.0), (8.0, 2.0), (5.0, 2.0)], ["3.00 (2.50 to 4.00)", "at least 3", "yes"]),
        (AT_LEAST, [(2.9, 1.0)], ["2.90", "at least 3", "no"]),
        (AT_MOST, [(1.5, 1.0)], ["1.50", "at most 1.5", "yes"]),
        (AT_MOST, [(1.51, 1.0)], ["1.51", "at most 1.5", "no"]),
        (Goal("f", "the fit", ("large", "small"), None), [(90.0, 1.0)], ["90.00", "", ""]),
    ],
)
def test_the_median_ratio_of_the_turns_is_judged_if_the_goal_has_a_target(
    goal: Goal, pairs: list[tuple[float, float]], judged: list[str]
) -> None:
    assert Result(goal, pairs).cells[-3:] == judged


def test_the_table_shows_both_sides_in_their_unit_and_the_note(tmp_path: Path) -> None:
    rate = Goal("r", "requests a second", ("ours", "theirs"), 2, at_least=True, unit="/s")
    write_results(
        [Result(AT_LEAST, [(8.0, 2.0), (6.0, 3.0)]), Result(rate, [(3201.4, 60.32)])], tmp_path / "t.md", "where"
    )
    header, rule, first, second, *footer = (tmp_path / "t.md").read_text().splitlines()
    assert first == "| something | slow: 7.00 s | fast: 2.50 s | 3.00 (2.00 to 4.00) | at least 3 | yes |"
    assert "| ours: 3,201 /s | theirs: 60.32 /s |" in second
    assert header.count("|") == rule.count("|") == first.count("|")
    assert footer == ["", "where"]


def test_the_sides_take_turns_in_being_first() -> None:
    order: list[str] = []

    def make_side(name: str, seconds: float) -> Side[Bench]:
        def measure(_: Bench) -> float:
            order.append(name)
            return seconds

        return measure

    result = take_turns(
        Bench(Path("none.csv"), "uci"), Comparison(AT_MOST, make_side("A", 3.0), make_side("B", 2.0)), 3
    )
    assert "".join(order) == "ABBAAB"
    assert result.pairs == [(3.0, 2.0)] * 3


def test_another_auc_on_one_side_is_no_measurement() -> None:
    bench = Bench(Path("none.csv"), "uci")
    bench.verify_auc(0.7714382036495685)
    bench.verify_auc(0.7714382036495684)  # the same, its parts summed in another order
    with pytest.raises(MeasurementFailed, match="test ROC AUC differs"):
        bench.verify_auc(0.7714383)


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(MeasurementFailed, match=r"status 3, .*:\nit broke"):
        Store(tmp_path).measure_seconds("sh", "-c", "echo it broke; exit 3")


@pytest.mark.parametrize("keys", [speed.KEYS, serving.KEYS])
def test_every_goal_has_a_key_of_its_own_by_which_it_is_chosen(
    keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys == sorted(set(keys))
    flags = make_benchmark_parser(None, keys, "results.md")
    assert flags.parse_args([]).only == keys
    assert flags.parse_args(["--only", "a,d"]).only == ["a", "d"]
    with pytest.raises(SystemExit):
        flags.parse_args(["--only", "a,x"])
    assert "no goal x (goals: a,b" in capsys.readouterr().err


def test_the_length_of_an_answer_is_in_its_head() -> None:
    assert parse_length(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx: y\r\n\r\n") == 12
    with pytest.raises(ValueError, match="without Content-Length"):
        parse_length(b"HTTP/1.1 200 OK\r\n\r\n")


@contextmanager
def serve_response(response: bytes) -> Iterator[str]:
    """Serve the same response to every request; an empty response closes the connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(4096):
                self.request.sendall(response)
                if not response:
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_load_counts_answers_by_status_and_connections_that_break() -> None:
    with serve_response(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}") as url:
        load = drive_for(0.2, url, build_post(url, b"{}"), 3)
    assert load.statuses[503] == len(load.milliseconds) > 3
    assert (load.lost, load.is_flawless) == (0, False)
    with serve_response(b"") as url:
        load = drive_for(0.2, url, build_post(url, b"{}"), 3)
    assert (load.lost, load.milliseconds, load.is_flawless) == (3, [], False)


def test_what_is_read_off_a_load() -> None:
    load = Load([float(latency) for latency in range(1, 102)], Counter({200: 101}), 0, 2.0)
    assert (load.per_second, load.median_ms, load.p99_ms, load.is_flawless) == (50.5, 51.0, 100.0, True)


def test_without_the_real_data_the_sample_is_measured_and_named(tmp_path: Path) -> None:
    bench, data_name = choose_data(tmp_path / "missing.csv")
    assert "sample" in data_name
    train, test = plain.prepare(bench.table, read_columns(ROOT / "data" / "sample.yaml"), tmp_path)
    assert len(train.table) > len(test.table) > 1000


def test_the_plain_script_loads_no_tracking() -> None:
    reached = {
        name
        for path in find_reachable(ROOT / "benchmarks" / "plain.py")
        for name in get_first_parts(list_imports(path))
    }
    assert "sklearn" in reached
    assert "mlflow" not in reached


def test_the_plain_script_tidies_as_preprocess_does() -> None:
    raw = pd.DataFrame(
        {
            "ID": [1, 2, 3],
            "LIMIT_BAL": [9, 9, 8],
            "SEX": [1, 1, 2],
            "AGE": [30, 30, None],
            CLIENTS.source_target: [0, 0, 1],
        }
    )
    pd.testing.assert_frame_equal(plain.clean_table(raw, CLIENTS), clean_table(raw, CLIENTS), check_dtype=False)


def test_the_empty_project_has_the_pins_of_the_root() -> None:
    empty, root = (read_yaml(ROOT / folder / "conda.yml")["dependencies"] for folder in ("benchmarks/empty", "."))
    assert set(empty[-1]["pip"]) <= set(root[-1]["pip"])
    assert empty[:-1] == root[:-1]


@pytest.mark.slow
def test_the_cost_of_a_command_is_its_own_and_not_that_of_the_process_which_measures(tmp_path: Path) -> None:
    filler = b"x" * (300 * 2**20)  # this process is larger than the command

    def measure_peak(code: str) -> float:
        command = [sys.executable, "-I", "-S", "-c", code]
        return measure_cost(command, tmp_path, os.environ, tmp_path / "output.txt").peak_kb * 1024

    assert len(filler) > measure_peak("filler = b'x' * (100 * 2**20)") > 100 * 2**20 > measure_peak("pass")
    with pytest.raises(MeasurementFailed, match="status 3"):
        measure_peak("raise SystemExit(3)")


HOLD_100_MB = "import os, sys, time; os.chdir(sys.argv[1]); held = b'x' * 100_000_000; time.sleep(0.5)"


@pytest.mark.slow
def test_the_memory_of_a_process_belongs_to_the_folder_that_it_runs_in(tmp_path: Path) -> None:
    peaks = watch_memory([sys.executable, "-c", HOLD_100_MB, str(ROOT / "download")], os.environ, tmp_path / "out")
    assert 0.1 < peaks["download"] < 0.2
    assert peaks["pipeline"] > 0.1
    with pytest.raises(MeasurementFailed, match=r"status 3, .*:\nno rows"):
        watch_memory([sys.executable, "-c", "print('no rows'); exit(3)"], os.environ, tmp_path / "out")


@pytest.mark.parametrize("source", ["there/main/download", "there/main#download", "git@host:a/main.git#download"])
def test_a_step_is_called_after_its_folder(source: str) -> None:
    run = SimpleNamespace(data=SimpleNamespace(tags={"mlflow.source.name": source}))
    assert get_folder(cast(Run, run)) == "download"


def test_the_reference_holds_each_client_once(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"ID": [1, 2, 3], "AGE": [24, 24, 57]}).to_parquet(path)
    assert pd.read_parquet(drop_repeated_clients(path))["AGE"].tolist() == [24, 57]
