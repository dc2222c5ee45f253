"""simulate.loans: a table of texts, the same for the same seed, of which some columns tell of the outcome."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from simulate.loans import PURPOSES, main, simulate_loans


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_the_same_seed_gives_the_same_file(tmp_path: Path, ending: str) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in "abc"]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        main(["--rows", "50", "--seed", seed, "--output", str(file)])
    first, second, third = (file.read_bytes() for file in files)
    assert first == second != third


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_every_ending_holds_the_same_table(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"loans.{ending}"
    main(["--rows", "200", "--output", str(file)])
    read = pd.read_parquet(file) if ending == "parquet" else pd.read_csv(file, keep_default_na=False, na_values=[""])
    expected = simulate_loans(200, 42)
    assert list(read.columns) == list(expected.columns)
    assert set(read["purpose"].dropna()) == set(PURPOSES)
    assert read["outcome"].tolist() == expected["outcome"].tolist()
    assert read["letter"].tolist() == expected["letter"].tolist()  # commas, quotes and line breaks come through


def test_purpose_and_delays_tell_of_the_outcome_and_the_region_does_not() -> None:
    table = simulate_loans(20_000, 3)
    lost = table["outcome"] == "lost"
    assert 0.2 < lost.mean() < 0.3
    by_purpose = lost.groupby(table["purpose"]).mean()
    assert by_purpose["house"] + 0.1 < by_purpose["wedding, or another feast"]
    by_region = lost.groupby(table["region"]).mean()
    assert by_region.max() - by_region.min() < 0.05


def test_a_mistake_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--rows", "none", "--output", str(tmp_path / "loans.csv")])
    assert stopped.value.code == 2
    assert "expected a whole number of at least 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
