"""spark: score a table of raw rows (CSV or Parquet) with Apache Spark, for tables too large for one machine.

The output is a folder with probabilities and classes. Spark's workers run the model through MLflow's `spark_udf`, and
need the packages of requirements/cluster.lock.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.batch.read_chunks import ColumnSelection, get_format, verify_columns
from serve.batch.run import OUTPUT_COLUMNS, make_scoring_parser, select_kept_columns
from serve.errors import EngineMissing
from serve.model.servable import Servable, load_servable
from stepkit.errors import BadParameter, TableUnfit, TableUnreadable
from stepkit.paths import resolve_path
from stepkit.step.exit import exit_on_error
from stepkit.store.registry import get_registered_version
from stepkit.table.fileformats import MISSING
from stepkit.words import pluralize

MASTER = "local[*]"
RESULT_SCHEMA = "probability double, class long"
RAISED_ERROR = re.compile(r"\[USER_RAISED_EXCEPTION\] (.+?)(?: SQLSTATE|$)", re.MULTILINE)
JAVA_TYPE_SUFFIX = r"[0-9.][dDfF]\s*$"
NUMBER_TYPES = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal", "boolean", "void")
TEXT_TYPES = ("string", "varchar", "char", "void")


@dataclass(frozen=True)
class Job:
    """Input, output, model and Spark master of a run."""

    source: str
    output: str
    model: str
    keep: str
    master: str


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `mlflow run ./serve -e spark`."""
    source = "path or URL of the table to score: .csv or .parquet, a file or a folder"
    output = "folder to write, must not exist: .csv or .parquet"
    parser = make_scoring_parser("spark", __doc__, source, output)
    parser.add_argument(
        "--master", default=MASTER, help=f"Spark's master: spark://HOST:7077, yarn, ... (default: {MASTER})"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Score a table and print a summary."""
    args = make_parser().parse_args(argv)
    job = Job(resolve_path(args.input), resolve_path(args.output), args.model, args.keep, args.master)
    with exit_on_error():
        print(run(job), flush=True)


def run(job: Job) -> str:
    """Score a table and write the output; return a summary for the user.

    Raises:
        EngineMissing: pyspark or Java is not installed.
        BadParameter: a file, folder, model or master is missing or cannot be used.
        TableUnfit, TableUnreadable: the table is faulty; nothing is left of the run.
        ModelRefused, TrackingUnreachable: the model cannot be loaded.
    """
    _verify_paths(job)
    verify_engine(job.master)
    version = get_registered_version(job.model)
    model = load_servable(version.name, version.version)
    with _open_session(job.master) as spark:
        rows = _score_and_write(spark, job, model, version.uri)
    return (
        f"scored {pluralize(rows, 'row')} with version {model.version} of {model.name} on {job.master} -> {job.output}"
    )


def _verify_paths(job: Job) -> None:
    """Verify local input and output before anything is loaded; only Spark can check other URLs."""
    for path in (job.source, job.output):
        get_format(Path(path))
    if _is_local(job.source) and not Path(job.source).exists():
        raise BadParameter(f"{job.source}: no such file or folder. Name the table to score: -P input=FILE")
    if not _is_local(job.output):
        return
    if Path(job.output).exists():
        raise BadParameter(f"{job.output}: already exists. Delete the old output, or choose another: -P output=FOLDER")
    if not Path(job.output).parent.is_dir():
        raise BadParameter(f"{job.output}: its folder does not exist. Create it, or choose another: -P output=FOLDER")


def _is_local(path: str) -> bool:
    return "://" not in path


def _to_spark_path(path: str) -> str:
    """Return a URL, because Spark's default file system may not be the local disk."""
    return f"file://{path}" if _is_local(path) else path


def verify_engine(master: str) -> None:
    """Raise EngineMissing unless pyspark and Java are installed; set the variables that Spark's workers need."""
    try:
        pyspark = importlib.import_module("pyspark")
    except ImportError as error:
        raise EngineMissing(f"-e spark: {error}. Install Spark: make cluster") from error
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java", path=str(Path(home) / "bin") if home else None):
        where = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise EngineMissing(
            f"-e spark: no java {where}. Install Java 17 or newer (Debian and Ubuntu: default-jre-headless), or set "
            "JAVA_HOME to its folder."
        )
    for variable in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        os.environ.setdefault(variable, sys.executable)
    if master.startswith("local-cluster"):
        # The workers are separate processes, which start Spark from its home.
        os.environ.setdefault("SPARK_HOME", str(Path(str(pyspark.__file__)).parent))


@contextmanager
def _open_session(master: str) -> Iterator[Any]:
    sql = importlib.import_module("pyspark.sql")
    try:
        spark = sql.SparkSession.builder.master(master).appName("credit default: batch scoring").getOrCreate()
    except Exception as error:  # from the JVM, py4j or the network
        raise BadParameter(f"master '{master}': Spark does not start ({_shorten(error)}).") from error
    spark.sparkContext.setLogLevel("OFF")  # Errors are raised here, and so printed once.
    try:
        yield spark
    finally:
        spark.stop()


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _score_and_write(spark: Any, job: Job, model: Servable, uri: str) -> int:
    """Write the scored rows and return their number."""
    pyfunc = importlib.import_module("mlflow.pyfunc")
    functions = importlib.import_module("pyspark.sql.functions")
    table = _read_table(spark, job.source)
    copied = select_kept_columns(job.keep, job.source, table.columns, model.names)
    verify_columns(Path(job.source), table.columns, ColumnSelection(model.numeric, model.text, copied))
    inputs = functions.struct(
        *(_build_input(functions, table, name, job.source, model).alias(name) for name in model.names)
    )
    scores = pyfunc.spark_udf(spark, uri, result_type=RESULT_SCHEMA, env_manager="local")(inputs)
    counter = importlib.import_module("pyspark.sql").Observation()
    probability, label, version = OUTPUT_COLUMNS
    scored = (
        table.select(*(table[_quote(name)] for name in copied), scores.alias("scores"))
        .select(*map(_quote, copied), f"scores.{probability}", f"scores.{label}")
        .withColumn(version, functions.lit(int(model.version)).cast("long"))
        .observe(counter, functions.count(functions.lit(1)).alias("rows"))
    )
    with _replace_output(job.output) as folder:
        _write_table(scored, folder, get_format(Path(job.output)), job.source)
        rows = int(counter.get["rows"])
        if not rows:
            raise TableUnreadable(f"{job.source}: no rows, only a header.")
    return rows


@contextmanager
def _replace_output(output: str) -> Iterator[str]:
    """Yield the folder to write to; a local output appears only when complete, even with two runs for it."""
    if not _is_local(output):
        yield output
        return
    unfinished = Path(output).with_name(f".{Path(output).name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        yield str(unfinished)
        unfinished.rename(output)
    except OSError as error:
        reason = "another process created the folder meanwhile" if Path(output).exists() else error.strerror
        raise BadParameter(f"{output}: cannot be created ({reason}). Choose another: -P output=FOLDER") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _quote(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _read_table(spark: Any, source: str) -> Any:
    try:
        if get_format(Path(source)) == ".parquet":
            return spark.read.parquet(_to_spark_path(source))
        # Every column is read as text; _build_input converts the model's numbers, as batch does. Without FAILFAST,
        # Spark truncates or pads rows with a wrong number of fields. With columnPruning, it does not check the number.
        options = {"header": True, "escape": '"', "enforceSchema": False, "mode": "FAILFAST", "columnPruning": False}
        return spark.read.options(**options).csv(_to_spark_path(source))
    except Exception as error:  # from Spark, Hadoop's file systems or py4j
        raise TableUnreadable(f"{source}: Spark cannot read this table ({_shorten(error)}).") from error


def _build_input(functions: Any, table: Any, name: str, source: str, model: Servable) -> Any:
    """Return a column as the model's input type, double or text."""
    column = table[_quote(name)]
    is_text, is_csv = name in model.text, get_format(Path(source)) == ".csv"
    column_type = dict(table.dtypes)[name]
    if not is_csv and column_type.partition("(")[0] not in (TEXT_TYPES if is_text else NUMBER_TYPES):
        expected = "text" if is_text else "numbers"
        raise TableUnfit(
            f"{source}, column {name}: wrong type (found {column_type}, expected {expected}). "
            f"Convert the column to {expected}."
        )
    if is_text or not is_csv:
        return column.cast("string" if is_text else "double")
    # Java, unlike other parsers, accepts a type letter at the end of a number.
    number = functions.when(~column.rlike(JAVA_TYPE_SUFFIX), column.try_cast("double"))
    message = functions.concat(functions.lit(f"column {name}: not a number (found '"), column, functions.lit("')"))
    return (
        functions.when(column.isNull() | functions.trim(column).isin(MISSING), functions.lit(None).cast("double"))
        .when(number.isNotNull(), number)
        .otherwise(functions.raise_error(message).cast("double"))
    )


def _write_table(scored: Any, folder: str, suffix: str, source: str) -> None:
    options = {"header": True, "escape": '"'} if suffix == ".csv" else {}
    try:
        scored.write.mode("errorifexists").options(**options).format(suffix[1:]).save(_to_spark_path(folder))
    except Exception as error:  # py4j also wraps the errors of workers.
        if match := RAISED_ERROR.search(str(error)):
            raise TableUnfit(f"{source}, {match[1].strip()}. Correct the value.") from error
        if "MALFORMED_RECORD" in str(error):
            raise TableUnfit(
                f"{source}: a row has more or fewer fields than the header. Correct the row; -e batch prints its line."
            ) from error
        raise BadParameter(f"{folder}: Spark cannot score the table or write it ({_shorten(error)}).") from error


if __name__ == "__main__":
    main()
