"""Spark with two workers gives the same scores as batch scoring, and rejects faulty tables."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyspark
import pytest

from serve.batch.run import main as batch
from serve.batch.spark import main as spark
from serve.batch.spark import verify_engine
from serve.errors import EngineMissing
from serve.model.onnx_graph import MAX_DIFFERENCE
from tests.conftest import run_command
from tests.support.trained_champion import Champion, make_clients_with_gaps, register_two_versions

ROWS = 600
PARTS = 2
MASTER = "local-cluster[2,1,1024]"


@pytest.fixture(scope="module")
def champion(store: str, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return register_two_versions("spark", tmp_path_factory.mktemp("champion"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_clients_with_gaps(ROWS, seed=4)


@pytest.fixture
def spark_home(tmp_path: Path) -> Path:
    """A Spark home whose workers write to the test's folder, not to the installed packages."""
    home = tmp_path / "spark"
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        (home / entry.name).symlink_to(entry)
    (home / "work").unlink(missing_ok=True)
    return home


def write_parts(table: pd.DataFrame, folder: Path) -> Path:
    """Write the table as a folder of files, as a cluster does, so that both workers get one."""
    folder.mkdir()
    for number in range(PARTS):
        table.iloc[number::PARTS].to_csv(folder / f"part-{number}.csv", index=False)
    return folder


def read_parts(folder: Path) -> pd.DataFrame:
    files = [pd.read_csv(path, dtype={"ID": str}) for path in sorted(folder.glob("part-*.csv"))]
    return pd.concat(files).sort_values("ID", ignore_index=True)


def test_two_workers_answer_as_batch_does(
    champion: Champion, table: pd.DataFrame, spark_home: Path, tmp_path: Path
) -> None:
    source, output = write_parts(table, tmp_path / "clients.csv"), tmp_path / "scored.csv"
    model = f"models:/{champion.name}@champion"
    parameters = {"input": source, "output": output, "model": model, "master": MASTER}
    result = run_command(
        *("mlflow", "run", "./serve", "-e", "spark", "--env-manager", "local"),
        *(word for name, value in parameters.items() for word in ("-P", f"{name}={value}")),
        SPARK_HOME=str(spark_home),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"scored 600 rows with version 1 of {champion.name} on {MASTER}" in result.stdout
    assert {path.name for path in (spark_home / "work").glob("app-*/*")} == {"0", "1"}, (
        "each of the two workers scored a part"
    )

    batch_source, batch_output = tmp_path / "whole.csv", tmp_path / "batch.csv"
    table.to_csv(batch_source, index=False)
    batch(["--input", str(batch_source), "--output", str(batch_output), "--model", model])
    from_spark, from_batch = read_parts(output), pd.read_csv(batch_output, dtype={"ID": str})
    assert from_spark.columns.tolist() == from_batch.columns.tolist() == ["ID", "probability", "class", "model_version"]
    assert np.abs(from_spark["probability"] - from_batch["probability"]).max() < MAX_DIFFERENCE
    assert from_spark.drop(columns="probability").equals(from_batch.drop(columns="probability"))


def build_arguments(champion: Champion, **flags: object) -> list[str]:
    all_flags = {"model": f"models:/{champion.name}@champion", "master": "local[1]", **flags}
    return [word for name, value in all_flags.items() for word in (f"--{name}", str(value))]


def run_rejected(capsys: pytest.CaptureFixture[str], champion: Champion, **flags: object) -> str:
    with pytest.raises(SystemExit) as exit_error:
        spark(build_arguments(champion, **flags))
    assert exit_error.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.partition(":")[0] in ERRORS]
    return line


ERRORS = ("BadParameter", "TableUnfit", "TableUnreadable", "EngineMissing")


def test_text_in_a_number_is_refused_and_leaves_nothing(
    champion: Champion, table: pd.DataFrame, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, output = tmp_path / "clients.csv", tmp_path / "scored.parquet"
    table.astype(object).assign(AGE="forty").to_csv(source, index=False)
    message = run_rejected(capsys, champion, input=source, output=output)
    assert message == f"TableUnfit: {source}, column AGE: not a number (found 'forty'). Correct the value."
    header, row, *_ = table.to_csv(index=False).splitlines()
    for uneven in (f"{row},1", row.rpartition(",")[0]):
        source.write_text(f"{header}\n{row}\n{uneven}\n")
        assert "a row has more or fewer fields than the header" in run_rejected(
            capsys, champion, input=source, output=output
        )
    table.drop(columns="AGE").to_csv(source, index=False)
    assert "no column AGE" in run_rejected(capsys, champion, input=source, output=output)
    table.head(0).to_csv(source, index=False)
    assert "no rows, only a header" in run_rejected(capsys, champion, input=source, output=output)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_run_leaves_alone_what_another_one_has_not_finished(
    champion: Champion, table: pd.DataFrame, tmp_path: Path
) -> None:
    source, output = tmp_path / "clients.parquet", tmp_path / "scored.parquet"
    table.to_parquet(source)
    unfinished = tmp_path / ".scored.parquet.unfinished"
    unfinished.mkdir()
    spark(build_arguments(champion, input=source, output=output))
    assert len(pd.read_parquet(output)) == ROWS
    assert {path.name for path in tmp_path.iterdir()} == {source.name, output.name, unfinished.name}


def test_places_are_looked_at_before_spark_starts(
    champion: Champion, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = tmp_path / "clients.csv"
    message = run_rejected(capsys, champion, input=source, output=tmp_path / "scored.csv")
    assert message.startswith(f"BadParameter: {source}: no such file or folder")
    source.write_text("ID\n1\n")
    assert f"{source}: already exists" in run_rejected(capsys, champion, input=source, output=source)
    assert "scored.orc: unknown file format" in run_rejected(
        capsys, champion, input=source, output=tmp_path / "scored.orc"
    )
    assert "none/scored.csv: its folder does not exist" in run_rejected(
        capsys, champion, input=source, output=tmp_path / "none" / "scored.csv"
    )


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"no java in JAVA_HOME .*Install Java 17"):
        verify_engine("local[1]")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match="no java on PATH"):
        verify_engine("local[1]")
    monkeypatch.setitem(sys.modules, "pyspark", None)  # makes the import fail
    with pytest.raises(EngineMissing, match="make cluster"):
        verify_engine("local[1]")
