"""Real tables, splits, settings and models that a step must reject.

The tests share one experiment in which every step has run once without errors. Faulty tables enter it under other step
names, so that the good runs stay current. Each test verifies that they do.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from stepkit.paths import ROOT
from stepkit.store.lineage import DAMAGED
from tests.conftest import Experiment, StepResult, create_experiment
from tests.system.conftest import read_artifacts, read_marks

RunStep = Callable[..., StepResult]
Refuse = Callable[..., Run]
Have = Callable[[str], Run]
Bring = Callable[..., None]

STEPS = ("download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register")
MODEL = "bad_tables"
TARGET = "default payment next month"
NO_RUN = "0123456789abcdef0123456789abcdef"
NEVER_RUN = "no finished 'never_run' run|'bad tables'|mlflow run"
NO_ADDRESS = "/reference.csv|runs:/|data.reference_dataset"
FAST = {"random_forest": {"n_estimators": 5, "n_jobs": 1}}


@pytest.fixture(scope="module")
def experiment(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("bad tables", tmp_path_factory.mktemp("bad_tables"))


@pytest.fixture
def model_config(tmp_path: Path) -> Callable[[object], Path]:
    """Write a model configuration, each in its own folder, and return its path."""

    def call(settings: object) -> Path:
        path = Path(tempfile.mkdtemp(dir=tmp_path)) / "model.yaml"
        path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings), encoding="utf-8")
        return path

    return call


@pytest.fixture
def have(
    experiment: Experiment,
    run_step: RunStep,
    few_clients: pd.DataFrame,
    tmp_path: Path,
    model_config: Callable[[object], Path],
) -> Have:
    """Function that returns the good current run of a step; it runs this step and earlier ones if needed."""
    source = tmp_path / "good.csv"
    flags: dict[str, dict[str, object]] = {
        "download": {"file_url": source},
        "check_data": {"model_name": MODEL},
        "random_forest": {"model_config": model_config(FAST)},
        "evaluate": {"model_name": MODEL},
        "register": {"model_name": MODEL},
    }

    def call(step: str) -> Run:
        if current := experiment.current(step):
            return current[0]
        if step != STEPS[0]:
            call(STEPS[STEPS.index(step) - 1])
        few_clients.to_csv(source, index=False)
        ended = run_step(step, **flags.get(step, {}))
        assert ended.status == 0, ended.message
        return call(step)

    return call


@pytest.fixture
def reject(have: Have, refuse: Refuse) -> Refuse:
    """Function that runs a step, which must fail, after one good run of it."""

    def call(step: str, error: str, *words: str, **flags: object) -> Run:
        have(step)
        return refuse(step, error, *words, **flags)

    return call


@pytest.fixture
def bring(run_step: RunStep, have: Have, tmp_path: Path) -> Bring:
    """Run the steps up to one on a faulty raw table, under the step names `bad_download`, `bad_preprocess` ..."""

    def call(raw: pd.DataFrame, upto: str = "preprocess") -> None:
        have(upto)
        raw.to_csv(tmp_path / "bad.csv", index=False)
        flags: dict[str, object] = {"file_url": tmp_path / "bad.csv"}
        for step in ("download", "preprocess", "segregate"):
            assert run_step(step, step=f"bad_{step}", **flags).status == 0
            if step == upto:
                return
            flags = {"input_step": f"bad_{step}"}

    return call


def spoil(table: pd.DataFrame, column: str, values: dict[int, object]) -> pd.DataFrame:
    """Return a copy of `table` with other values of `column` in some rows."""
    changed = table[column].astype(object).copy()
    for row, value in values.items():
        changed.iloc[row] = value
    return table.assign(**{column: changed})


def read_artifact(experiment: Experiment, run: Run, name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(read_artifacts(experiment)[f"{run.info.run_id}/artifacts/{name}"]))


def find_path(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


# preprocess


@pytest.mark.parametrize("column", ["PAY_0", TARGET])
def test_missing_column_is_named(bring: Bring, reject: Refuse, few_clients: pd.DataFrame, column: str) -> None:
    bring(few_clients.drop(columns=column), upto="download")
    words = ("raw_data.csv: 1 of 24 columns missing", column, "found: ID, ", "data/<name>.yaml")
    reject("preprocess", "TableUnfit", *words, input_step="bad_download")


# check_data

FAULTS: dict[str, tuple[str, dict[int, object], list[str]]] = {
    "text in a number column": (
        "BILL_AMT1",
        {3: "unknown", 10: "unknown", 11: "12 NT$"},
        ["BILL_AMT1: type: 3 of 300 rows: unknown (2x), 12 NT$ (1x)"],
    ),
    "a fraction in whole numbers": ("AGE", {4: 30.5}, ["AGE: type: 1 of 300 rows: 30.5 (1x)"]),
    "an unknown code": ("EDUCATION", {5: 9, 6: 17}, ["EDUCATION: known values: 2 of 300 rows: ", "9 (1x)", "17 (1x)"]),
    "out of range": ("AGE", {7: 300}, ["AGE: range: 1 of 300 rows: 300 (1x)"]),
    "below the range": ("PAY_AMT1", {8: -1}, ["PAY_AMT1: range: 1 of 300 rows: -1 (1x)"]),
    "no number of 32 bits": (
        "BILL_AMT1",
        {5: 1e39},
        ["BILL_AMT1: range: 1 of 300 rows: 1e+39 (1x); row 5. The model's largest number is 3.4e+38"],
    ),
    "a missing value": ("LIMIT_BAL", {9: None}, ["LIMIT_BAL: missing: 1 of 300 rows: missing (1x)"]),
    "a third class": (TARGET, {2: 2, 12: 2}, ["target classes: 2 rows are neither 0 nor 1: 2 (2x)"]),
    "a missing target": (TARGET, {1: None}, ["target classes: 1 row is neither 0 nor 1: missing (1x)"]),
}


BAD_SAMPLE = {"input_step": "bad_preprocess", "model_name": MODEL}


@pytest.mark.parametrize("fault", FAULTS)
def test_values_that_break_a_rule_are_named_with_column_and_rows(
    bring: Bring, reject: Refuse, experiment: Experiment, few_clients: pd.DataFrame, fault: str
) -> None:
    column, values, words = FAULTS[fault]
    bring(spoil(few_clients, column, values))
    run = reject(
        *("check_data", "DataCheckFailed", "1 of", "data checks failed", "offending_rows.csv", *words),
        publishes=("data_checks.csv", "offending_rows.csv"),
        **BAD_SAMPLE,
    )
    rows = read_artifact(experiment, run, "offending_rows.csv")
    assert rows["row"].tolist() == list(values)
    assert set(rows["column"]) == {column.replace(TARGET, "default")}


@pytest.mark.parametrize(
    ("change", "words", "publishes"),
    [
        (lambda raw: raw.assign(**{TARGET: 0}), ("target classes: only one class is present: 0",), ()),
        (
            lambda raw: spoil(spoil(raw, "SEX", {0: 3}), "AGE", {1: "old"}),
            ("2 of", "SEX: known values", "AGE: type"),
            ("offending_rows.csv",),
        ),
    ],
    ids=["constant target", "several faults"],
)
def test_every_fault_of_a_table_is_named(
    bring: Bring, reject: Refuse, few_clients: pd.DataFrame, change: Callable[[pd.DataFrame], pd.DataFrame],
    words: tuple[str, ...], publishes: tuple[str, ...],
) -> None:  # fmt: skip
    bring(change(few_clients))
    reject("check_data", "DataCheckFailed", *words, publishes=("data_checks.csv", *publishes), **BAD_SAMPLE)


def test_sample_that_differs_from_the_pinned_reference_is_named(
    bring: Bring, have: Have, reject: Refuse, experiment: Experiment, few_clients: pd.DataFrame
) -> None:
    bring(few_clients.assign(LIMIT_BAL=few_clients["LIMIT_BAL"] * 3))
    reference = f"runs:/{have('preprocess').info.run_id}/preprocessed_data.csv"
    run = reject(
        *("check_data", "DataCheckFailed", "1 of", "LIMIT_BAL: distribution: differs from the reference: KS"),
        publishes=("data_checks.csv", "ks_statistics.csv"),
        reference_artifact=reference,
        **BAD_SAMPLE,
    )
    statistics = read_artifact(experiment, run, "ks_statistics.csv")
    assert statistics.loc[statistics["differs"], "column"].tolist() == ["LIMIT_BAL"]


def test_pinned_reference_that_is_gone_is_an_error_and_no_skipped_test(have: Have, reject: Refuse) -> None:
    address = f"runs:/{have('preprocess').info.run_id}/nothing.csv"
    reject("check_data", "ArtifactMissing", address, "its run published columns.yaml", reference_artifact=address)


# segregate


READERS: dict[str, dict[str, str]] = {
    "segregate": {"input_step": "bad_preprocess"},
    "random_forest": {"input_step": "bad_preprocess", "train_data": "preprocessed_data.csv"},
    "evaluate": {"input_data_step": "bad_preprocess", "test_data": "preprocessed_data.csv", "model_name": MODEL},
}


@pytest.mark.parametrize("step", READERS)
def test_rows_without_a_label_are_named_by_each_step_that_reads_them(
    bring: Bring, reject: Refuse, few_clients: pd.DataFrame, step: str
) -> None:
    bring(spoil(few_clients, TARGET, {1: None, 7: None}))
    words = ("the target 'default': 2 of 300 rows have no label: rows 1, 7", "Fill in their labels or remove")
    reject(step, "TableUnfit", *words, **READERS[step])


@pytest.mark.parametrize(
    ("labels", "stratify", "words"),
    [
        ([0, 0, 1, 1], "default", ("4 rows are too few to split by 'default'", "0.7 and 0.3", "Add rows")),
        ([1] + [0] * 49, "default", ("value 1 has 1 row,", "data.stratify=null")),
        ([0], "", ("too few rows", "found 1", "Add rows")),
    ],
)
def test_too_few_rows_for_a_split_are_counted(
    bring: Bring, reject: Refuse, few_clients: pd.DataFrame, labels: list[int], stratify: str, words: tuple[str, ...]
) -> None:
    bring(few_clients.head(len(labels)).assign(**{TARGET: labels}))
    reject("segregate", "TableUnfit", *words, input_step="bad_preprocess", stratify=stratify)


# Flags


@pytest.mark.parametrize(
    ("step", "error", "words", "flags"),
    [
        ("preprocess", "TableUnreadable", "'x.txt' must end with one of .csv, .parquet", {"artifact_name": "x.txt"}),
        ("preprocess", "UpstreamMissing", "no finished 'download' run|'download_data'", {"input_step": "download"}),
        ("preprocess", "UpstreamMissing", NEVER_RUN, {"input_step": "never_run"}),
        ("evaluate", "UpstreamMissing", NEVER_RUN, {"input_model_step": "never_run"}),
        ("register", "UpstreamMissing", NEVER_RUN, {"input_model_step": "never_run"}),
        ("preprocess", "ArtifactMissing", f"run {NO_RUN}: not found in sqlite:", {"input_run_id": NO_RUN}),
        ("check_data", "BadParameter", NO_ADDRESS, {"reference_artifact": "/nowhere/reference.csv"}),
        ("check_data", "BadParameter", NO_ADDRESS, {"reference_artifact": "http://127.0.0.1:9/reference.csv"}),
        ("segregate", "TableUnfit", "cannot stratify by 'colour'|LIMIT_BAL, SEX", {"stratify": "colour"}),
        ("random_forest", "BadParameter", f"{ROOT}/random_forest/x.yaml|rf_config.yaml", {"model_config": "x.yaml"}),
        ("random_forest", "ArtifactMissing", f"run {NO_RUN}: not found in", {"model_config": f"runs:/{NO_RUN}/x.yaml"}),
    ],
)  # fmt: skip
def test_a_flag_that_names_nothing_is_refused_with_what_there_is(
    reject: Refuse, step: str, error: str, words: str, flags: dict[str, str]
) -> None:
    reject(step, error, *words.split("|"), **flags)


@pytest.mark.parametrize(
    ("step", "flag", "value", "words"),
    [
        ("segregate", "test_size", "1.5", "1.5 must be above 0 and below 1"),
        ("segregate", "test_size", "0", "0 must be above 0 and below 1"),
        ("segregate", "test_size", "nan", "nan must be above 0 and below 1"),
        ("segregate", "test_size", "abc", "'abc' is not a number"),
        ("random_forest", "val_size", "-0.2", "--val_size"),
        ("check_data", "ks_alpha", "5", "5 must be above 0 and below 1"),
    ],
)
def test_wrong_parameter_is_refused_before_a_run_is_opened(
    run_step: RunStep, experiment: Experiment, step: str, flag: str, value: str, words: str
) -> None:
    before = read_marks(experiment)
    ended = run_step(step, **{flag: value})
    assert ended.status == 2
    assert f"argument --{flag}" in ended.message
    assert words in ended.message
    assert read_marks(experiment) == before


# Upstream


@pytest.fixture
def upstream(have: Have, run_step: RunStep, few_clients: pd.DataFrame, tmp_path: Path, experiment: Experiment) -> Run:
    """Current run of the step `lost`, whose artifacts a test may damage."""
    have("preprocess")
    few_clients.to_csv(tmp_path / "lost.csv", index=False)
    assert run_step("download", step="lost", file_url=tmp_path / "lost.csv").status == 0
    (run,) = experiment.current("lost")
    return run


@pytest.mark.parametrize("name", ["raw_data.csv", "columns.yaml"])
def test_deleted_artifact_is_named_with_the_step_that_makes_it(upstream: Run, refuse: Refuse, name: str) -> None:
    find_path(upstream, name).unlink()
    address = f"runs:/{upstream.info.run_id}/{name}"
    words = ("missing in the artifact store", "Run lost again")
    refuse("preprocess", "ArtifactMissing", address, *words, input_step="lost")


@pytest.mark.parametrize("name", ["raw_data.csv", "columns.yaml"])
def test_truncated_artifact_is_refused(upstream: Run, refuse: Refuse, name: str) -> None:
    path = find_path(upstream, name)
    path.write_bytes(path.read_bytes()[:-40])
    address = f"runs:/{upstream.info.run_id}/{name}"
    refuse("preprocess", "ArtifactDamaged", address, "another sha256", "Run lost again", input_step="lost")


def test_artifact_that_the_upstream_run_never_made_is_named(experiment: Experiment, have: Have, reject: Refuse) -> None:
    run = have("download")
    address = f"runs:/{run.info.run_id}/other.csv"
    reject("preprocess", "ArtifactMissing", address, "columns.yaml, raw_data.csv", input_artifact="other.csv")
    assert DAMAGED not in experiment.client.get_run(run.info.run_id).data.tags, (
        "the run never had an artifact of this name"
    )


# random_forest


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"random_forest": {"n_trees": 5}}, ["random_forest.n_trees", "not permitted"]),
        ({"random_forest": {"n_estimators": 0}}, ["random_forest.n_estimators", "greater than 0"]),
        ({"threshold": 1.5}, ["threshold", "less than 1"]),
        ({"reasons": {"permutations": "exact"}}, ["reasons.permutations", "23 columns", "at most 12"]),
        ({"reasons": {"permutations": 7}}, ["reasons.permutations", "multiple of 2"]),
        ({"features": {"numeric": ["COLOUR"]}}, ["features.numeric", "COLOUR", "LIMIT_BAL"]),
        ({"features": {"numeric": [], "categorical": []}}, ["no column selected"]),
        ("- a list\n", ["model.yaml", "a valid dictionary"]),
        ("random_forest: {n_estimators: 5\n", ["model.yaml", "line 2"]),
    ],
)
def test_wrong_setting_is_named(
    reject: Refuse, model_config: Callable[[object], Path], settings: object, words: list[str]
) -> None:
    reject("random_forest", "BadParameter", *words, model_config=model_config(settings))


def test_a_step_of_another_kind_alone_publishes_a_model_that_evaluate_accepts(
    have: Have, run_step: RunStep, experiment: Experiment
) -> None:
    have("segregate")
    assert run_step("logistic_regression").status == 0
    (trained,) = experiment.current("logistic_regression")
    assert trained.data.tags["calibration"] == "sigmoid"
    assert trained.data.metrics["onnx_largest_difference"] < 1e-6
    published = {artifact.path for artifact in experiment.client.list_artifacts(trained.info.run_id)}
    assert {"feature_importance.csv", "feature_importance.png"} <= published
    judging = {"step": "evaluate_other_kind", "input_model_step": "logistic_regression", "model_name": "other_kind"}
    assert run_step("evaluate", **judging).status == 0


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (TARGET, dict.fromkeys(range(300), 0), ("must contain both 0 and 1 (found 0).",)),
        (TARGET, {row: row % 3 for row in range(300)}, ("must contain both 0 and 1 (found 0, 1, 2).",)),
        ("AGE", dict.fromkeys(range(100), "old"), ("AGE", "old")),
    ],
    ids=["one class", "three classes", "text"],
)
def test_forest_refuses_a_target_of_other_than_two_classes_and_text_for_a_number(
    bring: Bring, reject: Refuse, few_clients: pd.DataFrame, column: str, values: dict[int, object],
    words: tuple[str, ...],
) -> None:  # fmt: skip
    bring(spoil(few_clients, column, values), upto="segregate")
    reject("random_forest", "TableUnfit", *words, input_step="bad_segregate")


# evaluate and register


def test_model_that_was_never_exported_is_named(experiment: Experiment, have: Have, reject: Refuse) -> None:
    run = have("random_forest")
    words = (f"runs:/{run.info.run_id}/other: no such model", "its run logged 'model_export'")
    reject("evaluate", "ArtifactMissing", *words, model_export="other")
    assert DAMAGED not in experiment.client.get_run(run.info.run_id).data.tags


def test_verdict_about_another_model_is_refused_and_registers_nothing(
    have: Have, run_step: RunStep, reject: Refuse, experiment: Experiment, model_config: Callable[[object], Path]
) -> None:
    judged = have("random_forest")
    have("register")
    assert run_step("random_forest", step="other_forest", model_config=model_config(FAST)).status == 0
    (other_forest,) = experiment.current("other_forest")
    versions = list_registered()
    words = (judged.info.run_id, other_forest.info.run_id, "Run evaluate again")
    reject("register", "VerdictUnfit", *words, input_model_step="other_forest", model_name=MODEL)
    assert list_registered() == versions


def list_registered() -> tuple[list[str], dict[str, str]]:
    """Return the versions of the registered model and its aliases."""
    client = MlflowClient()
    versions = [str(version.version) for version in client.search_model_versions(f"name = '{MODEL}'")]
    return versions, dict(client.get_registered_model(MODEL).aliases)
