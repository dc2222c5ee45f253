"""Which version becomes champion: the first, one at least as good, and never a worse one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stepkit.tracking import ROOT
from tests.conftest import Ended, Experiment
from tests.pipelines import small_table

Step = Callable[..., Ended]


@pytest.fixture
def splits(run_step: Step, tmp_path: Path) -> None:
    """Download, preprocess and segregate a small table."""
    split_table(run_step, small_table(tmp_path), "uci")


def split_table(run_step: Step, table: Path, dataset: str) -> None:
    assert run_step("download", file_url=table, artifact_name="raw_data.csv", dataset=dataset).status == 0
    names = {"input_artifact": "raw_data.csv", "artifact_name": "preprocessed_data.csv"}
    assert run_step("preprocess", input_step="download_data", **names).status == 0
    names = {"input_artifact": "preprocessed_data.csv", "stratify": "default"}
    assert run_step("segregate", input_step="preprocess", test_size=0.3, **names).status == 0


def train_and_register(run_step: Step, experiment: Experiment, folder: Path, **forest: object) -> None:
    """Train a forest with these settings, evaluate it, and register it under the experiment's own model name."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"random_forest": forest}))
    flags = {"train_data": "data/data_train.csv", "val_size": 0.3, "stratify": "default", "model_config": config}
    assert run_step("random_forest", input_step="segregate", **flags).status == 0
    model = {"input_model_step": "random_forest", "model_export": "model_export", "model_name": experiment.id_name}
    ended = run_step("evaluate", input_data_step="segregate", test_data="data/data_test.csv", **model)
    assert ended.status == 0, ended.message
    ended = run_step("register", input_verdict_step="evaluate", **model)
    assert ended.status == 0, ended.message


def aliases(experiment: Experiment) -> dict[str, int]:
    found = experiment.client.get_registered_model(experiment.id_name).aliases
    return {name: int(version) for name, version in found.items()}


@pytest.mark.usefixtures("splits")
def test_champion_moves_to_an_equal_model_and_not_to_a_worse_one(
    run_step: Step, experiment: Experiment, tmp_path: Path
) -> None:
    good = {"n_estimators": 30, "max_depth": 8, "class_weight": "balanced"}
    train_and_register(run_step, experiment, tmp_path, **good)
    assert aliases(experiment) == {"challenger": 1, "champion": 1}
    train_and_register(run_step, experiment, tmp_path, **good)
    assert aliases(experiment) == {"challenger": 2, "champion": 2}
    train_and_register(run_step, experiment, tmp_path, n_estimators=1, max_depth=1)
    assert aliases(experiment) == {"challenger": 3, "champion": 2}
    rejected = experiment.client.get_model_version(experiment.id_name, "3")
    assert rejected.tags["verdict"] == "rejected"
    assert "below the champion's" in str(rejected.description)


@pytest.mark.usefixtures("splits")
def test_champion_of_another_data_set_is_neither_reference_nor_rival(
    run_step: Step, experiment: Experiment, tmp_path: Path
) -> None:
    """As when the bundled sample is followed by a table of one's own, whose columns the champion does not know."""
    train_and_register(run_step, experiment, tmp_path, n_estimators=30, max_depth=8)
    uci = yaml.safe_load((ROOT / "data" / "uci.yaml").read_text())
    uci["columns"].pop("AGE")
    (tmp_path / "ageless.yaml").write_text(yaml.safe_dump({**uci, "name": "ageless"}))
    split_table(run_step, small_table(tmp_path, seed=5), str(tmp_path / "ageless.yaml"))
    names = dict.fromkeys(("sample_artifact", "reference_artifact"), "preprocessed_data.csv")
    assert run_step("check_data", input_step="preprocess", model_name=experiment.id_name, **names).status == 0
    said = "the champion (version 1) is of another data set (uci, not ageless)"
    assert said in experiment.current("check_data")[0].data.tags["summary"]
    train_and_register(run_step, experiment, tmp_path, n_estimators=2, max_depth=1)
    assert said in str(experiment.client.get_model_version(experiment.id_name, "2").description)
    assert aliases(experiment) == {"challenger": 2, "champion": 2}


@pytest.mark.usefixtures("splits")
def test_model_that_was_judged_before_another_became_champion_stays_challenger(
    run_step: Step, experiment: Experiment, tmp_path: Path
) -> None:
    train_and_register(run_step, experiment, tmp_path, n_estimators=5, max_depth=3)
    model = {"input_model_step": "random_forest", "model_export": "model_export", "model_name": experiment.id_name}
    assert run_step("register", input_verdict_step="evaluate", **model).status == 0
    assert aliases(experiment) == {"challenger": 2, "champion": 1}
    assert "became champion since the verdict" in experiment.current("register")[0].data.tags["summary"]
