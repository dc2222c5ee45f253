"""Sweeps over kinds of model: jobs that differ only in settings of a kind that they do not train run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from pipeline.config import MODEL_STEPS, Config, ConfigError, parse_config
from pipeline.sweep.hydra_plugins import register_plugin, register_plugins
from pipeline.sweep.job import select_best_job_steps, select_job_steps
from pipeline.sweep.plot import plot_sweep
from pipeline.sweep.plugin_settings import GridSettings, SearchSettings
from pipeline.sweep.results import shorten_keys
from pipeline.sweep.sweep import GridSweeper, OptunaSweeper, list_models
from pipeline.sweep.unused_overrides import drop_unused, list_distinct
from stepkit.paths import ROOT
from tests.support.small_data import compose_config

DEPTH = "random_forest_pipeline.random_forest.max_depth"
TREES = "random_forest_pipeline.random_forest.n_estimators"
ITERATIONS = "gradient_boosting_pipeline.gradient_boosting.max_iter"
THRESHOLD = "random_forest_pipeline.threshold"
BOTH = "model=random_forest,gradient_boosting"

Sweep = Callable[..., list[list[str]]]


class GridOnly(GridSweeper):
    """Grid without a pipeline around it."""

    def sweep(self, arguments: list[str]) -> Any:
        return self.run_jobs(arguments)


class SearchOnly(OptunaSweeper):
    """Search without a pipeline around it."""

    def sweep(self, arguments: list[str]) -> Any:
        return self.run_jobs(arguments)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """Function that runs a sweep of the real configuration with Hydra's basic launcher.

    It returns the overrides of each job, in the order of the jobs' numbers.
    """
    register_plugins()
    register_plugin("hydra/sweeper", "basic", GridOnly, GridSettings)
    register_plugin("hydra/sweeper", "optuna", SearchOnly, SearchSettings)

    def call(*overrides: str) -> list[list[str]]:
        jobs: list[list[str]] = []

        def job(config: DictConfig) -> float:
            assert HydraConfig.get().job.num == len(jobs)
            jobs.append(list(HydraConfig.get().overrides.task))
            return float(len(jobs))

        with initialize_config_dir(version_base="1.3", config_dir=str(ROOT)):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            hydra.multirun("config", job, ["hydra/launcher=basic", f"hydra.sweep.dir={tmp_path}", *overrides])
        return jobs

    yield call
    register_plugins()


def test_jobs_that_differ_only_in_an_unchosen_kind_run_once(sweep: Sweep) -> None:
    assert sweep(BOTH, f"{DEPTH}=5,9", f"{TREES}=10", "hydra.sweeper.max_batch_size=2") == [
        ["model=random_forest", f"{DEPTH}=5", f"{TREES}=10"],
        ["model=random_forest", f"{DEPTH}=9", f"{TREES}=10"],
        ["model=gradient_boosting"],
    ]


def test_each_kind_has_a_job_per_combination_of_its_own_settings() -> None:
    depths, iterations = [f"{DEPTH}=5", f"{DEPTH}=9"], [f"{ITERATIONS}={number}" for number in (10, 20, 30)]
    models, config = ["model=random_forest", "model=gradient_boosting"], compose_config()
    grid = [list(job) for job in product(models, depths, iterations)]
    assert list_distinct(drop_unused(config, grid)) == [
        *([models[0], depth] for depth in depths),
        *([models[1], iteration] for iteration in iterations),
    ]


def test_settings_of_the_configured_kind_count_without_a_swept_kind(sweep: Sweep) -> None:
    config, jobs = compose_config(), [[f"{DEPTH}=5"], [f"{DEPTH}=9"]]
    assert drop_unused(config, jobs) == jobs
    assert drop_unused(config, [["model=gradient_boosting", *job] for job in jobs]) == [["model=gradient_boosting"]] * 2
    assert sweep(f"{ITERATIONS}=10,20") == [[]]


def test_settings_of_another_kind_count_if_the_chosen_one_refers_to_them() -> None:
    reference = "gradient_boosting_pipeline.threshold=${random_forest_pipeline.threshold}"
    jobs = [["model=gradient_boosting", f"{THRESHOLD}={value}"] for value in (0.3, 0.4)]
    assert drop_unused(compose_config(), jobs) == [["model=gradient_boosting"]] * 2
    assert drop_unused(compose_config(reference), jobs) == jobs  # a reference that is not swept
    referring = [[*job, reference] for job in jobs]
    assert drop_unused(compose_config(), referring) == referring


def test_an_unknown_setting_of_an_unchosen_kind_is_still_an_error(sweep: Sweep) -> None:
    with pytest.raises(HydraException, match="no_such"):
        sweep("model=gradient_boosting", "random_forest_pipeline.random_forest.no_such=1,2")


@pytest.mark.slow
def test_a_search_proposes_only_settings_that_count(sweep: Sweep) -> None:
    kinds = "model=choice(random_forest,gradient_boosting)"
    jobs = sweep("hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", kinds, f"{DEPTH}=range(3,9)")
    assert len(jobs) == 4
    keys = {job[0]: {override.partition("=")[0] for override in job} for job in jobs}
    assert keys == {"model=random_forest": {"model", DEPTH}, "model=gradient_boosting": {"model"}}


def test_kinds_of_a_sweep_are_known_before_its_first_job() -> None:
    assert list_models([f"{DEPTH}=5,9"], "random_forest") == ["random_forest"]
    assert list_models(["model=random_forest,gradient_boosting"], "random_forest") == list(MODEL_STEPS[:2])
    assert list_models(["model=choice('gradient_boosting')"], "random_forest") == ["gradient_boosting"]
    with pytest.raises(ConfigError, match=r"^model: unknown kind of model 'boost'.*\(kinds: random_forest, "):
        list_models(["model=random_forest,boost"], "random_forest")


def make_config(*overrides: str) -> Config:
    return parse_config(compose_config(*overrides))


@pytest.mark.parametrize("model", MODEL_STEPS)
def test_only_the_model_of_the_best_job_is_refitted(model: str) -> None:
    config = make_config(f"model={model}")
    assert select_job_steps(config)[-1] == model
    assert select_best_job_steps(config) == [model, "evaluate", "register"]
    assert select_best_job_steps(make_config(f"model={model}", f"{model}_pipeline.refit=false")) == [
        "evaluate",
        "register",
    ]
    fitted = config.without_refit()
    assert (config.model_settings.refit, fitted.model_settings.refit) == (True, False)
    assert fitted.model_settings.model_copy(update={"refit": True}) == config.model_settings
    others = [name for name in MODEL_STEPS if name != model]
    assert all(getattr(fitted, f"{name}_pipeline").refit for name in others)


@pytest.mark.parametrize(
    ("overrides", "remaining"),
    [
        (["sweep.test=all"], []),  # every job is refitted, evaluated and registered
        (["main.execute_steps=[evaluate,register]"], []),  # no job trains a model
        (["main.execute_steps=[segregate,random_forest]"], ["random_forest"]),
    ],
)
def test_the_best_job_finishes_what_the_jobs_left_out(overrides: list[str], remaining: list[str]) -> None:
    assert select_best_job_steps(make_config(*overrides)) == remaining


def test_settings_with_the_same_last_name_are_shown_with_their_kind() -> None:
    keys = ["model", DEPTH, "gradient_boosting_pipeline.gradient_boosting.max_depth", TREES, THRESHOLD]
    assert list(shorten_keys(keys).values()) == [
        "model",
        "random_forest.max_depth",
        "gradient_boosting.max_depth",
        "n_estimators",
        "threshold",
    ]
    same = [THRESHOLD, "gradient_boosting_pipeline.threshold"]
    assert list(shorten_keys(same).values()) == same
    assert list(shorten_keys(["a.model", "model"]).values()) == ["a.model", "model"]


def test_a_setting_that_a_job_does_not_use_has_its_own_place_in_the_plot() -> None:
    settings = pd.DataFrame({"model": ["forest", "forest", "boosting"], "max_depth": ["5", "11", ""]})
    (axes,) = plot_sweep(settings, pd.Series([0.70, 0.75, 0.72], name="validation ROC AUC")).axes
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["unused"] < heights["5"] < heights["11"]
