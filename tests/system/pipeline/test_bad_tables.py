"""Tables, splits, settings and models that a step must refuse, each made for real.

The tests share one experiment in which every step has run well once. Faulty tables enter it under step names of
their own, so that the good runs stay the current ones, and each test sees that they do.
"""

from __future__ import annotations

import io
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
from tests.conftest import Ended, Experiment, new_experiment
from tests.system.conftest import artifacts, marks

RunStep = Callable[..., Ended]
Refuse = Callable[..., Run]
Have = Callable[[str], Run]
Bring = Callable[..., None]

STEPS = ("download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register")
MODEL = "bad_tables"
TARGET = "default payment next month"
FAST = {"random_forest": {"n_estimators": 5, "n_jobs": 1}}


@pytest.fixture(scope="module")
def experiment(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return new_experiment("bad tables", tmp_path_factory.mktemp("bad_tables"))


@pytest.fixture
def model_config(tmp_path: Path) -> Callable[[object], Path]:
    """Write a model configuration and return its path."""

    def call(settings: object) -> Path:
        path = tmp_path / "model.yaml"
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
    """Return the good current run of a step: have("segregate"); the steps up to it run if they did not yet."""
    source = tmp_path / "good.csv"
    flags: dict[str, dict[str, object]] = {
        "download": {"file_url": source},
        "check_data": {"model_name": MODEL},
        "random_forest": {"model_config": model_config(FAST)},
        "evaluate": {"model_name": MODEL},
        "register": {"model_name": MODEL},
    }

    def call(step: str) -> Run:
        for run in experiment.current(step):
            return run
        if step != STEPS[0]:
            call(STEPS[STEPS.index(step) - 1])
        few_clients.to_csv(source, index=False)
        ended = run_step(step, **flags.get(step, {}))
        assert ended.status == 0, ended.message
        return call(step)

    return call


@pytest.fixture
def bring(run_step: RunStep, have: Have, tmp_path: Path) -> Bring:
    """Let a faulty raw table in, up to a step: afterwards `bad_download`, `bad_preprocess` ... can be read from."""

    def call(raw: pd.DataFrame, upto: str = "preprocess") -> None:
        have(upto)
        raw.to_csv(tmp_path / "bad.csv", index=False)
        before = {"download": {"file_url": tmp_path / "bad.csv"}}
        for step, upstream in zip(STEPS, ("", *STEPS), strict=False):
            if step == "check_data":
                continue
            source = {"input_step": "bad_preprocess" if step == "segregate" else f"bad_{upstream}"} if upstream else {}
            assert run_step(step, step=f"bad_{step}", **source, **before.get(step, {})).status == 0
            if step == upto:
                return

    return call


def spoiled(table: pd.DataFrame, column: str, values: dict[int, object]) -> pd.DataFrame:
    """A copy of `table` with other values of `column` in some rows."""
    changed = table[column].astype(object).copy()
    for row, value in values.items():
        changed.iloc[row] = value
    return table.assign(**{column: changed})


def artifact(experiment: Experiment, run: Run, name: str) -> bytes:
    return artifacts(experiment)[f"{run.info.run_id}/artifacts/{name}"]


def path_of(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


# preprocess


@pytest.mark.parametrize("column", ["PAY_0", TARGET])
def test_missing_column_is_named(
    bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame, column: str
) -> None:
    have("preprocess")
    bring(few_clients.drop(columns=column), upto="download")
    refuse(
        *("preprocess", "TableUnfit", "raw_data.csv lacks 1 of 24 columns", column, "It has: ID, ", "data/<name>.yaml"),
        input_step="bad_download",
    )


def test_artifact_name_of_an_unknown_format_is_refused(have: Have, refuse: Refuse) -> None:
    have("preprocess")
    refuse("preprocess", "TableUnreadable", "'clean.txt' must end with", ".csv, .parquet", artifact_name="clean.txt")


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
        ["BILL_AMT1: range: 1 of 300 rows: 1e+39 (1x); row 5. No model takes a number beyond"],
    ),
    "a missing value": ("LIMIT_BAL", {9: None}, ["LIMIT_BAL: missing: 1 of 300 rows: missing (1x)"]),
    "a third class": (TARGET, {2: 2, 12: 2}, ["target classes: 2 rows are neither 0 nor 1: 2 (2x)"]),
    "a missing target": (TARGET, {1: None}, ["target classes: 1 rows are neither 0 nor 1: missing (1x)"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_values_that_break_a_rule_are_named_with_column_and_rows(
    bring: Bring, have: Have, refuse: Refuse, experiment: Experiment, few_clients: pd.DataFrame, fault: str
) -> None:
    column, values, words = FAULTS[fault]
    have("check_data")
    bring(spoiled(few_clients, column, values))
    run = refuse(
        *("check_data", "DataCheckFailed", "1 of", "data checks failed", "offending_rows.csv", *words),
        publishes=("data_checks.csv", "offending_rows.csv"),
        **{"input_step": "bad_preprocess", "model_name": MODEL},
    )
    rows = pd.read_csv(io.BytesIO(artifact(experiment, run, "offending_rows.csv")))
    assert rows["row"].tolist() == list(values)
    assert set(rows["column"]) == {column.replace(TARGET, "default")}


def test_constant_target_is_named(bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame) -> None:
    have("check_data")
    bring(few_clients.assign(**{TARGET: 0}))
    refuse(
        *("check_data", "DataCheckFailed", "target classes: only one class is present: 0"),
        publishes=("data_checks.csv",),
        **{"input_step": "bad_preprocess", "model_name": MODEL},
    )


def test_several_faults_are_all_named(bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame) -> None:
    have("check_data")
    bring(spoiled(spoiled(few_clients, "SEX", {0: 3}), "AGE", {1: "old"}))
    refuse(
        *("check_data", "DataCheckFailed", "2 of", "SEX: known values", "AGE: type"),
        publishes=("data_checks.csv", "offending_rows.csv"),
        **{"input_step": "bad_preprocess", "model_name": MODEL},
    )


def test_sample_that_differs_from_the_pinned_reference_is_named(
    bring: Bring, have: Have, refuse: Refuse, experiment: Experiment, few_clients: pd.DataFrame
) -> None:
    have("check_data")
    bring(few_clients.assign(LIMIT_BAL=few_clients["LIMIT_BAL"] * 3))
    reference = f"runs:/{have('preprocess').info.run_id}/preprocessed_data.csv"
    run = refuse(
        *("check_data", "DataCheckFailed", "1 of", "LIMIT_BAL: distribution: differs from the reference: KS"),
        publishes=("data_checks.csv", "ks_statistics.csv"),
        **{"input_step": "bad_preprocess", "model_name": MODEL, "reference_artifact": reference},
    )
    statistics = pd.read_csv(io.BytesIO(artifact(experiment, run, "ks_statistics.csv")))
    assert statistics.loc[statistics["differs"], "column"].tolist() == ["LIMIT_BAL"]


def test_pinned_reference_that_is_gone_is_an_error_and_no_skipped_test(have: Have, refuse: Refuse) -> None:
    have("check_data")
    address = f"runs:/{have('preprocess').info.run_id}/nothing.csv"
    refuse("check_data", "ArtifactMissing", address, "its run published columns.yaml", reference_artifact=address)


@pytest.mark.parametrize("address", ["/nowhere/reference.csv", "http://127.0.0.1:9/reference.csv"])
def test_pinned_reference_that_is_no_artifact_address_is_an_error(have: Have, refuse: Refuse, address: str) -> None:
    have("check_data")
    refuse("check_data", "BadParameter", address, "runs:/", "data.reference_dataset", reference_artifact=address)


# segregate


READERS: dict[str, dict[str, str]] = {
    "segregate": {"input_step": "bad_preprocess"},
    "random_forest": {"input_step": "bad_preprocess", "train_data": "preprocessed_data.csv"},
    "evaluate": {"input_data_step": "bad_preprocess", "test_data": "preprocessed_data.csv", "model_name": MODEL},
}


@pytest.mark.parametrize("step", READERS)
def test_rows_without_a_label_are_named_by_each_step_that_reads_them(
    bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame, step: str
) -> None:
    have(step)
    bring(spoiled(few_clients, TARGET, {1: None, 7: None}))
    words = ("the target 'default': 2 of 300 rows have no label: rows 1, 7", "Fill in their labels or remove")
    refuse(step, "TableUnfit", *words, **READERS[step])


def test_too_few_rows_for_a_stratified_split_are_counted(
    bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame
) -> None:
    have("segregate")
    bring(few_clients.head(4).assign(**{TARGET: [0, 0, 1, 1]}))
    refuse(
        *("segregate", "TableUnfit", "4 rows are too few to split by 'default'", "0.7 and 0.3", "Get more rows"),
        input_step="bad_preprocess",
    )


def test_class_of_one_row_cannot_be_split(bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame) -> None:
    have("segregate")
    bring(few_clients.head(50).assign(**{TARGET: [1] + [0] * 49}))
    refuse("segregate", "TableUnfit", "value 1 has 1 row,", "stratify by nothing", input_step="bad_preprocess")


def test_one_row_cannot_be_split_at_all(bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame) -> None:
    have("segregate")
    bring(few_clients.head(1))
    refuse("segregate", "TableUnfit", "1 row", "too few", input_step="bad_preprocess", stratify="")


def test_unknown_stratify_column_is_refused_with_the_known_ones(have: Have, refuse: Refuse) -> None:
    have("segregate")
    refuse("segregate", "TableUnfit", "cannot stratify by 'colour'", "LIMIT_BAL, SEX", stratify="colour")


@pytest.mark.parametrize(
    ("step", "flag", "value", "words"),
    [
        ("segregate", "test_size", "1.5", "1.5 must lie between 0 and 1, both excluded"),
        ("segregate", "test_size", "0", "0 must lie between 0 and 1, both excluded"),
        ("segregate", "test_size", "nan", "nan must lie between 0 and 1, both excluded"),
        ("segregate", "test_size", "abc", "'abc' is not a number"),
        ("random_forest", "val_size", "-0.2", "--val_size"),
        ("check_data", "ks_alpha", "5", "5 must lie between 0 and 1, both excluded"),
    ],
)
def test_wrong_parameter_is_refused_before_a_run_is_opened(
    run_step: RunStep, experiment: Experiment, step: str, flag: str, value: str, words: str
) -> None:
    before = marks(experiment)
    ended = run_step(step, **{flag: value})
    assert ended.status == 2
    assert f"argument --{flag}" in ended.message
    assert words in ended.message
    assert marks(experiment) == before


# Upstream


@pytest.fixture
def upstream(have: Have, run_step: RunStep, few_clients: pd.DataFrame, tmp_path: Path, experiment: Experiment) -> Run:
    """A current run of the step `lost`, whose artifacts a test may damage."""
    have("preprocess")
    few_clients.to_csv(tmp_path / "lost.csv", index=False)
    assert run_step("download", step="lost", file_url=tmp_path / "lost.csv").status == 0
    (run,) = experiment.current("lost")
    return run


@pytest.mark.parametrize(
    ("step", "flag"),
    [
        ("preprocess", "input_step"),
        ("evaluate", "input_model_step"),
        ("register", "input_model_step"),
    ],
)
def test_step_that_never_ran_is_named_with_the_command_that_runs_it(
    have: Have, refuse: Refuse, step: str, flag: str
) -> None:
    have("register")
    refuse(step, "UpstreamMissing", "no finished 'never_run' run", "'bad tables'", "mlflow run", **{flag: "never_run"})


def test_a_step_called_by_its_folder_is_told_the_name_of_its_runs(have: Have, refuse: Refuse) -> None:
    have("preprocess")
    refuse("preprocess", "UpstreamMissing", "no finished 'download' run", "'download_data'", input_step="download")


@pytest.mark.parametrize("name", ["raw_data.csv", "columns.yaml"])
def test_deleted_artifact_is_named_with_the_step_that_makes_it(upstream: Run, refuse: Refuse, name: str) -> None:
    path_of(upstream, name).unlink()
    address = f"runs:/{upstream.info.run_id}/{name}"
    refuse("preprocess", "ArtifactMissing", address, "not in the artifact store", "Run lost again", input_step="lost")


@pytest.mark.parametrize("name", ["raw_data.csv", "columns.yaml"])
def test_truncated_artifact_is_refused(upstream: Run, refuse: Refuse, name: str) -> None:
    path = path_of(upstream, name)
    path.write_bytes(path.read_bytes()[:-40])
    address = f"runs:/{upstream.info.run_id}/{name}"
    refuse("preprocess", "ArtifactDamaged", address, "another sha256", "Run lost again", input_step="lost")


def test_deleted_run_is_named(have: Have, refuse: Refuse) -> None:
    have("preprocess")
    nobody = "0123456789abcdef0123456789abcdef"
    refuse("preprocess", "ArtifactMissing", f"run {nobody} is not on sqlite:", input_run_id=nobody)


def test_artifact_that_the_upstream_run_never_made_is_named(experiment: Experiment, have: Have, refuse: Refuse) -> None:
    run = have("download")
    have("preprocess")
    address = f"runs:/{run.info.run_id}/other.csv"
    refuse("preprocess", "ArtifactMissing", address, "columns.yaml, raw_data.csv", input_artifact="other.csv")
    assert DAMAGED not in experiment.client.get_run(run.info.run_id).data.tags, "for a name that is no name of its"


# random_forest


def test_unknown_model_configuration_is_refused_with_the_known_one(have: Have, refuse: Refuse) -> None:
    have("random_forest")
    refuse(
        *("random_forest", "BadParameter", str(ROOT / "random_forest" / "other.yaml"), "rf_config.yaml"),
        model_config="other.yaml",
    )


def test_model_configuration_that_is_in_no_run_is_refused(have: Have, refuse: Refuse) -> None:
    run = have("segregate")
    have("random_forest")
    address = f"runs:/{run.info.run_id}/nothing.yaml"
    refuse("random_forest", "ArtifactMissing", address, model_config=address)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"random_forest": {"n_trees": 5}}, ["random_forest.n_trees", "not permitted"]),
        ({"model": {}}, ["model", "not permitted"]),
        ({"random_forest": {"n_estimators": "many"}}, ["random_forest.n_estimators", "integer"]),
        ({"random_forest": {"n_estimators": 0}}, ["random_forest.n_estimators", "greater than 0"]),
        ({"random_forest": {"criterion": "luck"}}, ["random_forest.criterion", "'gini'"]),
        ({"threshold": 1.5}, ["threshold", "less than 1"]),
        ({"features": {"numeric": ["COLOUR"]}}, ["features.numeric", "COLOUR", "LIMIT_BAL"]),
        ({"features": {"numeric": [], "categorical": []}}, ["no column at all"]),
        ("- a list\n", ["model.yaml", "a valid dictionary"]),
        ("random_forest: {n_estimators: 5\n", ["model.yaml", "line 2"]),
    ],
)
def test_wrong_setting_is_named(
    have: Have, refuse: Refuse, model_config: Callable[[object], Path], settings: object, words: list[str]
) -> None:
    have("random_forest")
    refuse("random_forest", "BadParameter", *words, model_config=model_config(settings))


@pytest.mark.parametrize(("values", "held"), [([0] * 300, "0."), ([0, 1, 2] * 100, "0, 1, 2.")])
def test_forest_refuses_a_target_that_is_not_of_two_classes(
    bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame, values: list[int], held: str
) -> None:
    have("random_forest")
    bring(few_clients.assign(**{TARGET: values}), upto="segregate")
    refuse("random_forest", "TableUnfit", f"must hold both 0 and 1, and holds: {held}", input_step="bad_segregate")


def test_forest_refuses_text_in_a_number_column(
    bring: Bring, have: Have, refuse: Refuse, few_clients: pd.DataFrame
) -> None:
    have("random_forest")
    bring(spoiled(few_clients, "AGE", dict.fromkeys(range(100), "old")), upto="segregate")
    refuse("random_forest", "TableUnfit", "AGE", "old", input_step="bad_segregate")


# evaluate and register


def test_model_that_was_never_exported_is_named(experiment: Experiment, have: Have, refuse: Refuse) -> None:
    run = have("random_forest")
    have("evaluate")
    refuse(
        *("evaluate", "ArtifactMissing", f"no model at runs:/{run.info.run_id}/other", "its run logged 'model_export'"),
        model_export="other",
    )
    assert DAMAGED not in experiment.client.get_run(run.info.run_id).data.tags


def test_verdict_about_another_model_is_refused_and_registers_nothing(
    have: Have,
    run_step: RunStep,
    refuse: Refuse,
    experiment: Experiment,
    model_config: Callable[[object], Path],
) -> None:
    judged = have("random_forest")
    have("register")
    assert run_step("random_forest", step="other_forest", model_config=model_config(FAST)).status == 0
    (other,) = experiment.current("other_forest")
    versions = registered()
    refuse(
        *("register", "VerdictUnfit", judged.info.run_id, other.info.run_id, "Run evaluate again"),
        **{"input_model_step": "other_forest", "model_name": MODEL},
    )
    assert registered() == versions


def registered() -> tuple[list[str], dict[str, str]]:
    """The versions of the registered model and its aliases."""
    client = MlflowClient()
    versions = [str(version.version) for version in client.search_model_versions(f"name = '{MODEL}'")]
    return versions, dict(client.get_registered_model(MODEL).aliases)
