"""simulate/: clients are reproducible, look like the real ones, and a failed run leaves nothing behind."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from benchmarks.sample_fidelity import AUC_RANGE, build_distance_rows, compute_forest_auc
from simulate import run
from simulate.clients import iter_client_chunks, simulate_clients
from simulate.figures import BILLS, COLUMNS, PAYMENTS, STATUSES, TARGET

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "data" / "sample.csv.gz"
REAL = ROOT.parent / "shared" / "data" / "default_of_credit_card_clients.csv"


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return simulate_clients(rows=30_000, seed=42)


def write_table(target: Path, rows: int) -> bytes:
    run.main(["--rows", str(rows), "--output", str(target)])
    return target.read_bytes()


def test_seed_42_reproduces_the_committed_sample(sample: pd.DataFrame) -> None:
    committed = gzip.decompress(SAMPLE.read_bytes())
    text = sample.to_csv(index=False, lineterminator="\n").encode()
    assert hashlib.sha256(committed).hexdigest() == hashlib.sha256(text).hexdigest()


def test_more_rows_of_a_seed_begin_with_the_same_clients_and_another_seed_has_others(sample: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(simulate_clients(7, seed=42), sample.head(7))
    assert not simulate_clients(100, seed=1).equals(simulate_clients(100, seed=2))


def test_chunks_are_bounded_differ_and_number_clients_on() -> None:
    tables = list(iter_client_chunks(250, seed=3, chunk_rows=100))
    assert [len(table) for table in tables] == [100, 100, 50]
    all_clients = pd.concat(tables, ignore_index=True)
    assert all_clients["ID"].tolist() == list(range(1, 251))
    assert not tables[0].drop(columns="ID").equals(tables[1].drop(columns="ID"))
    pd.testing.assert_frame_equal(
        pd.concat(iter_client_chunks(150, seed=3, chunk_rows=100), ignore_index=True), all_clients.head(150)
    )


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^rows: expected at least 1"):
        simulate_clients(0, seed=1)


def test_columns_and_codes_are_those_of_the_real_table_in_whole_numbers(sample: pd.DataFrame) -> None:
    months = range(1, 7)
    assert sample.columns.tolist() == [
        *("ID", "LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE"),
        *("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
        *(f"BILL_AMT{month}" for month in months),
        *(f"PAY_AMT{month}" for month in months),
        "default payment next month",
    ]
    assert set(sample.dtypes) == {np.dtype("int64")}
    codes = {"SEX": range(1, 3), "EDUCATION": range(7), "MARRIAGE": range(4), TARGET: range(2), "PAY_0": range(-2, 9)}
    assert {name: set(sample[name]) for name in codes} == {name: set(values) for name, values in codes.items()}


def test_amounts_and_shares_are_plausible(sample: pd.DataFrame) -> None:
    assert sample["LIMIT_BAL"].between(10_000, 1_000_000).all()
    assert sample["AGE"].between(21, 79).all()
    assert (sample[list(PAYMENTS)] >= 0).all(axis=None)
    assert (sample[list(BILLS)] < 0).any(axis=None), "some clients have paid too much"
    assert sample[TARGET].mean() == pytest.approx(0.22, abs=0.01)
    assert 15 <= sample.drop(columns="ID").duplicated().sum() <= 60, "a few clients repeat another"


def test_columns_depend_on_each_other_as_in_the_real_table(sample: pd.DataFrame) -> None:
    for before, after in pairwise(STATUSES):
        assert chi2_contingency(pd.crosstab(sample[before], sample[after])).pvalue < 1e-6
        assert sample[before].corr(sample[after], "spearman") > 0.5
    assert sample["BILL_AMT1"].corr(sample["BILL_AMT2"]) > 0.85
    assert sample["BILL_AMT1"].corr(sample["BILL_AMT6"]) > 0.7
    assert sample["PAY_AMT1"].corr(sample["BILL_AMT2"], "spearman") > 0.5
    assert sample["LIMIT_BAL"].corr(sample["BILL_AMT1"]) > 0.2
    assert -0.25 < sample["LIMIT_BAL"].corr(sample[TARGET], "spearman") < -0.1


@pytest.mark.slow
def test_a_forest_learns_the_target_as_well_as_the_real_one(sample: pd.DataFrame) -> None:
    low, high = AUC_RANGE
    assert low < compute_forest_auc(sample) < high


@pytest.mark.skipif(not REAL.is_file(), reason=f"the real table is not at {REAL}")
def test_every_column_is_distributed_like_the_real_one(sample: pd.DataFrame) -> None:
    rows = build_distance_rows(sample, pd.read_csv(REAL))
    assert len(rows) == len(COLUMNS) - 2
    assert [name for name, *_, is_ok in rows if not is_ok] == []


@pytest.mark.skipif(not REAL.is_file(), reason=f"the real table is not at {REAL}")
def test_the_sample_holds_no_client_of_the_real_table(sample: pd.DataFrame) -> None:
    """Only clients who owe and pay hardly anything can coincide by chance."""
    columns = [name for name in COLUMNS if name not in ("ID", TARGET)]
    owing = sample[(sample[list(BILLS)] > 0).sum(axis=1) > 3]
    assert len(owing.merge(pd.read_csv(REAL), on=columns)) == 0


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_every_format_holds_the_same_clients_and_one_header_in_the_same_bytes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "iter_client_chunks", lambda rows, seed: iter_client_chunks(rows, seed, chunk_rows=100))
    first = write_table(tmp_path / name, rows=250)
    assert write_table(tmp_path / f"other_{name}", rows=250) == first
    content = io.BytesIO(first)
    if name.endswith(".parquet"):
        written = pd.read_parquet(content)
    else:
        written = pd.read_csv(content, compression="gzip" if name.endswith(".gz") else None)
    pd.testing.assert_frame_equal(written, pd.concat(iter_client_chunks(250, 42, chunk_rows=100), ignore_index=True))


def test_a_relative_output_is_relative_to_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.parse_target_path("data/sample.csv.gz") == SAMPLE


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--rows", "0"], "whole number of at least 1"),
        (["--rows", "-5"], "whole number of at least 1"),
        (["--rows", "many"], "whole number of at least 1"),
        (["--seed", "-1"], "whole number of at least 0"),
        (["--output", "{tmp}/a.xlsx"], "expected .csv, .csv.gz or .parquet"),
        (["--output", "{tmp}/nowhere/a.csv"], "mkdir -p"),
        (["--output", "{tmp}/folder.csv"], "Choose a file"),
    ],
)
def test_a_bad_argument_gives_one_line_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], part: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    good = ["--rows", "5", "--output", str(tmp_path / "a.csv")]
    with pytest.raises(SystemExit) as stopped:
        run.main([*good, *(flag.format(tmp=tmp_path) for flag in flags)])
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.count("\n") == 1
    assert part in message
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


@pytest.mark.slow
def test_an_interrupted_run_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("old", encoding="utf-8")
    command = [sys.executable, str(ROOT / "simulate" / "run.py"), "--rows", "9000000", "--output", str(target)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL) as job:
        deadline = time.monotonic() + 15
        while not any(path.stat().st_size for path in tmp_path.glob(".*.part")) and time.monotonic() < deadline:
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
    assert job.returncode != 0
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]
