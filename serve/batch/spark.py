"""spark: a table of raw rows that Apache Spark reads (CSV or Parquet) -> a folder of their probabilities and classes.

For tables beyond one machine. The model runs on Spark's workers as MLflow's `spark_udf`; they need the packages of
requirements/cluster.lock.
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

MASTER = "local[*]"
RESULT_SCHEMA = "probability double, class long"
RAISED_ERROR = re.compile(r"\[USER_RAISED_EXCEPTION\] (.+?)(?: SQLSTATE|$)", re.MULTILINE)
JAVA_TYPE_SUFFIX = r"[0-9.][dDfF]\s*$"
NUMBER_TYPES = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal", "boolean", "void")
TEXT_TYPES = ("string", "varchar", "char", "void")


@dataclass(frozen=True)
class Job:
    """What is to be scored, where to, by which model, on which Spark."""

    source: str
    output: str
    model: str
    keep: str
    master: str


def make_parser() -> argparse.ArgumentParser:
    source = "path or address that Spark reads, ends with .csv or .parquet"
    parser = make_scoring_parser(
        "spark", __doc__, source, "folder to write, ends with .csv or .parquet; must not be there"
    )
    parser.add_argument("--master", default=MASTER, help=f"Spark's master: spark://HOST:7077, yarn, ... ({MASTER})")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    job = Job(resolve_path(args.input), resolve_path(args.output), args.model, args.keep, args.master)
    with exit_on_error():
        print(run(job), flush=True)


def run(job: Job) -> str:
    """Score the table; return in words what was done.

    Raises:
        EngineMissing: no pyspark, no Java.
        BadParameter: a file, folder, model or master that is not there or cannot be used.
        TableUnfit, TableUnreadable: the table; nothing of the run stays then.
        ModelRefused, TrackingUnreachable: the model cannot be loaded.
    """
    _verify_paths(job)
    verify_engine(job.master)
    version = get_registered_version(job.model)
    model = load_servable(version.name, version.version)
    with _open_session(job.master) as spark:
        rows = _score_and_write(spark, job, model, version.uri)
    return f"scored {rows:,} rows by version {model.version} of {model.name} on {job.master} -> {job.output}"


def _verify_paths(job: Job) -> None:
    """See to it that both can be what they shall be, as far as can be told without Spark, before anything is loaded."""
    for place in (job.source, job.output):
        get_format(Path(place))
    if _is_local(job.source) and not Path(job.source).exists():
        raise BadParameter(f"there is no file or folder {job.source}. Name the table to score: -P input=FILE")
    if not _is_local(job.output):
        return
    if Path(job.output).exists():
        raise BadParameter(f"{job.output} is there already. Remove it, or name another: -P output=FOLDER")
    if not Path(job.output).parent.is_dir():
        raise BadParameter(f"there is no folder {Path(job.output).parent} to write in. Make it, or name another.")


def _is_local(place: str) -> bool:
    return "://" not in place


def _to_spark_path(place: str) -> str:
    """A path means the disk that was looked at, also where Spark's own file system is another."""
    return f"file://{place}" if _is_local(place) else place


def verify_engine(master: str) -> None:
    """Raise EngineMissing unless there is a Spark and a Java to run it; say where the workers find Python and Spark."""
    try:
        pyspark = importlib.import_module("pyspark")
    except ImportError as error:
        raise EngineMissing(f"-e spark: {error}. Install the engines for clusters: make cluster") from error
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java", path=str(Path(home) / "bin") if home else None):
        where = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise EngineMissing(
            f"-e spark: there is no java {where}. Install Java 17 or newer (Debian and Ubuntu: default-jre-headless), "
            "or set JAVA_HOME to where it is."
        )
    for variable in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        os.environ.setdefault(variable, sys.executable)
    if master.startswith("local-cluster"):
        # its workers are processes of their own, which start Spark from its home
        os.environ.setdefault("SPARK_HOME", str(Path(str(pyspark.__file__)).parent))


@contextmanager
def _open_session(master: str) -> Iterator[Any]:
    sql = importlib.import_module("pyspark.sql")
    try:
        spark = sql.SparkSession.builder.master(master).appName("credit default: batch scoring").getOrCreate()
    except Exception as error:  # of the JVM, of py4j, of the network: whichever comes first
        raise BadParameter(f"Spark does not start on the master '{master}': {_shorten(error)}") from error
    spark.sparkContext.setLogLevel("OFF")  # what goes wrong comes back as an error, and is told once
    try:
        yield spark
    finally:
        spark.stop()


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _score_and_write(spark: Any, job: Job, model: Servable, uri: str) -> int:
    """Write the answers and return how many; the output appears whole, where its place is a local path."""
    pyfunc = importlib.import_module("mlflow.pyfunc")
    functions = importlib.import_module("pyspark.sql.functions")
    table = _read_table(spark, job.source)
    wanted = ColumnSelection(
        model.numeric, model.text, select_kept_columns(job.keep, job.source, table.columns, model.names)
    )
    verify_columns(Path(job.source), table.columns, wanted)
    inputs = functions.struct(
        *(_build_input(functions, table, name, job.source, model).alias(name) for name in model.names)
    )
    answer = pyfunc.spark_udf(spark, uri, result_type=RESULT_SCHEMA, env_manager="local")(inputs)
    counted = importlib.import_module("pyspark.sql").Observation()
    probability, label, version = OUTPUT_COLUMNS
    answered = (
        table.select(*(table[_quote(name)] for name in wanted.kept), answer.alias("answer"))
        .select(*map(_quote, wanted.kept), f"answer.{probability}", f"answer.{label}")
        .withColumn(version, functions.lit(int(model.version)).cast("long"))
        .observe(counted, functions.count(functions.lit(1)).alias("rows"))
    )
    with _replace_output(job.output) as folder:
        _write_table(answered, folder, get_format(Path(job.output)), job.source)
        rows = int(counted.get["rows"])
        if not rows:
            raise TableUnreadable(f"{job.source} has a header and no rows.")
    return rows


@contextmanager
def _replace_output(output: str) -> Iterator[str]:
    """Yield where to write; a local output appears whole, and another run for the same one does it no harm."""
    if not _is_local(output):
        yield output
        return
    unfinished = Path(output).with_name(f".{Path(output).name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        yield str(unfinished)
        unfinished.rename(output)
    except OSError as error:
        why = "another process made it meanwhile" if Path(output).exists() else error.strerror
        raise BadParameter(f"{output} cannot be put in place: {why}. Name another: -P output=FOLDER") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _quote(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _read_table(spark: Any, source: str) -> Any:
    try:
        if get_format(Path(source)) == ".parquet":
            return spark.read.parquet(_to_spark_path(source))
        # every column as text: the model's numbers are made of it below, as in batch; without FAILFAST Spark cuts and
        # fills up rows with too many and too few fields, and with columnPruning it does not look
        options = {"header": True, "escape": '"', "enforceSchema": False, "mode": "FAILFAST", "columnPruning": False}
        return spark.read.options(**options).csv(_to_spark_path(source))
    except Exception as error:  # of Spark, of Hadoop's file systems, of py4j
        raise TableUnreadable(f"{source} cannot be read by Spark: {_shorten(error)}") from error


def _build_input(functions: Any, table: Any, name: str, source: str, model: Servable) -> Any:
    """Return a column as the model takes it: a double, or a text."""
    column = table[_quote(name)]
    is_text, is_csv = name in model.text, get_format(Path(source)) == ".csv"
    kind = dict(table.dtypes)[name]
    if not is_csv and kind.partition("(")[0] not in (TEXT_TYPES if is_text else NUMBER_TYPES):
        needed = "text" if is_text else "numbers"
        raise TableUnfit(f"{source}, column {name}: its type is {kind}, and the model needs {needed}.")
    if is_text or not is_csv:
        return column.cast("string" if is_text else "double")
    # Java's numbers may end with a letter for their type, nobody else's do
    number = functions.when(~column.rlike(JAVA_TYPE_SUFFIX), column.try_cast("double"))
    complaint = functions.concat(functions.lit(f"column {name}: '"), column, functions.lit("'"))
    return (
        functions.when(column.isNull() | functions.trim(column).isin(MISSING), functions.lit(None).cast("double"))
        .when(number.isNotNull(), number)
        .otherwise(functions.raise_error(complaint).cast("double"))
    )


def _write_table(answered: Any, folder: str, ending: str, source: str) -> None:
    options = {"header": True, "escape": '"'} if ending == ".csv" else {}
    try:
        answered.write.mode("errorifexists").options(**options).format(ending[1:]).save(_to_spark_path(folder))
    except Exception as error:  # what a worker trips over comes back as an error of py4j's
        if found := RAISED_ERROR.search(str(error)):
            raise TableUnfit(f"{source} holds what is no number: {found[1].strip()}. Mend it.") from error
        if "MALFORMED_RECORD" in str(error):
            raise TableUnfit(
                f"{source} has a row with more or fewer fields than its header. Correct it; -e batch names the line."
            ) from error
        raise BadParameter(f"Spark cannot score or write to {folder}: {_shorten(error)}") from error


if __name__ == "__main__":
    main()
