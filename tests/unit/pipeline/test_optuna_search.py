"""Search of hydra/sweeper=optuna, run by Hydra with its basic launcher and artificial jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from pipeline.config import ConfigError
from pipeline.sweep.hydra_plugins import register_plugin, register_plugins
from pipeline.sweep.optuna_search import Search, prepare_storage
from pipeline.sweep.plugin_settings import SearchSettings
from pipeline.sweep.sweep import OptunaSweeper
from stepkit.paths import ROOT

pytestmark = pytest.mark.slow

Task = Callable[[DictConfig], Any]
Sweep = Callable[..., Search]

MASTER = {"x": 0.0, "depth": 5, "kind": "sqrt"}
EARLY = "hydra.sweeper.sampler.n_startup_trials=2"
"""Draw the first two trials at random, and use earlier results from the third trial on."""

QUIET = ["hydra/hydra_logging=none", "hydra/job_logging=none"]


class SearchOnly(OptunaSweeper):
    """Search without a pipeline around it."""

    def sweep(self, arguments: list[str]) -> Any:
        self.run_jobs(arguments)
        return self.search


@pytest.fixture
def jobs() -> list[dict[str, Any]]:
    """Configurations of the jobs, in order."""
    return []


@pytest.fixture
def sweep(tmp_path: Path, jobs: list[dict[str, Any]]) -> Iterator[Sweep]:
    """Function that runs a sweep as `python main.py -m hydra/sweeper=optuna ...` does."""
    register_plugins()
    register_plugin("hydra/sweeper", "optuna", SearchOnly, SearchSettings)
    hydra_settings = {"output_subdir": None, "sweep": {"dir": str(tmp_path), "subdir": "."}}
    ConfigStore.instance().store("search", {**MASTER, "hydra": hydra_settings})

    def call(task: Task, *overrides: str) -> Search:
        def job(config: DictConfig) -> Any:
            jobs.append(dict(config))
            return task(config)

        storage = f"hydra.sweeper.storage='sqlite:///{tmp_path / 'studies.db'}'"
        store = [storage] if "hydra.sweeper.study_name=s" in overrides else []
        with initialize(version_base="1.3", config_path=None):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            search: Search = hydra.multirun("search", job, ["hydra/sweeper=optuna", *QUIET, *store, *overrides])
        return search

    yield call
    register_plugins()


def compute_parabola(config: DictConfig) -> float:
    """Return a value whose minimum is at x = 1."""
    return float((config.x - 1) ** 2)


def list_proposed(jobs: list[dict[str, Any]]) -> list[float]:
    """Return the values of x in order, without the repeated best trial of an earlier command."""
    return list(dict.fromkeys(job["x"] for job in jobs))


def load_study(tmp_path: Path, name: str = "s") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 'studies.db'}")


def list_states(tmp_path: Path) -> list[str]:
    return [trial.state.name for trial in load_study(tmp_path).trials]


def test_a_search_finds_the_least_value_in_the_jobs_that_it_was_given(
    sweep: Sweep, jobs: list[dict[str, Any]], tmp_path: Path
) -> None:
    search = sweep(compute_parabola, "x=interval(0,2)", "kind=log2", "depth=range(3,6)", "hydra.sweeper.n_trials=8")
    assert (search.complete, len(jobs)) == (8, 8)
    assert {job["kind"] for job in jobs} == {"log2"}
    assert {job["depth"] for job in jobs} == {3, 4, 5}
    assert search.best_value == min((job["x"] - 1) ** 2 for job in jobs) < 0.05
    assert search.progress.endswith(f": 8 of 8 trials, best {search.best_value:.4f}")
    results = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert (results.name, results.best_value) == ("optuna", search.best_value)
    assert (tmp_path / "multirun.yaml").is_file()


def test_choices_come_to_the_job_as_the_values_that_were_typed(sweep: Sweep, jobs: list[dict[str, Any]]) -> None:
    sweep(lambda config: 1.0, "+options=1,'1',null,[1,2]", "hydra.sweeper.n_trials=14")
    values = {
        str(OmegaConf.to_container(job["options"])) if job["options"] == [1, 2] else repr(job["options"])
        for job in jobs
    }
    assert values == {"1", "'1'", "None", "[1, 2]"}


def test_the_same_seed_proposes_the_same_values(sweep: Sweep, jobs: list[dict[str, Any]]) -> None:
    for seed in (7, 7, 8):
        settings = [f"hydra.sweeper.sampler.seed={seed}", EARLY, "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=4"]
        sweep(compute_parabola, "x=interval(0,2)", *settings)
    values = [job["x"] for job in jobs]
    assert values[:6] == values[6:12]
    assert values[:6] != values[12:]
    assert len(set(values)) == 12


def test_after_the_first_trials_the_search_goes_by_what_it_has_found(sweep: Sweep, jobs: list[dict[str, Any]]) -> None:
    for setting in (["hydra.sweeper.sampler.n_startup_trials=2"], ["hydra.sweeper.sampler.n_startup_trials=6"], []):
        sweep(compute_parabola, "x=interval(0,2)", *setting, "hydra.sweeper.n_trials=6")
    learned, drawn, default = ([job["x"] for job in part] for part in (jobs[:6], jobs[6:12], jobs[12:]))
    assert default == drawn, "by default, ten trials are random"
    assert learned[:2] == drawn[:2]
    assert all(learned_x != drawn_x for learned_x, drawn_x in zip(learned[2:], drawn[2:], strict=True))


def test_seed_and_direction_are_those_of_the_configuration(sweep: Sweep) -> None:
    outcome = sweep(compute_parabola, "x=interval(0,2)", "++sweep.direction=maximize", "hydra.sweeper.n_trials=5")
    assert outcome.best_value is not None
    assert outcome.best_value == max(abs(outcome.best_value), 0.2)


def test_a_search_in_two_commands_proposes_what_one_would_have(
    sweep: Sweep, jobs: list[dict[str, Any]], tmp_path: Path
) -> None:
    command = ["x=interval(0,2)", EARLY, "hydra.sweeper.study_name=s"]
    assert sweep(compute_parabola, *command, "hydra.sweeper.n_trials=3").complete == 3
    assert sweep(compute_parabola, *command, "hydra.sweeper.n_trials=6").complete == 6
    split = list_proposed(jobs)
    assert len(split) == len(load_study(tmp_path).trials) == 6
    del jobs[:]
    sweep(compute_parabola, "x=interval(0,2)", EARLY, "hydra.sweeper.n_trials=6")
    assert list_proposed(jobs) == split


def test_the_best_trial_of_an_earlier_command_is_run_again(sweep: Sweep, jobs: list[dict[str, Any]]) -> None:
    """It is then the best job of this command too, and is evaluated and registered."""
    named = ["x=interval(0,2)", "hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=4"]
    sweep(compute_parabola, *named)
    best = min(jobs, key=lambda job: abs(job["x"] - 1))
    del jobs[:]
    search = sweep(compute_parabola, *named)
    assert jobs == [best]
    assert (search.complete, search.best_value) == (4, (best["x"] - 1) ** 2)


@pytest.mark.parametrize("bad", [math.nan, "text", ValueError("broken")])
def test_a_failed_job_is_a_failed_trial_and_the_search_goes_on(
    sweep: Sweep, jobs: list[dict[str, Any]], tmp_path: Path, bad: Any
) -> None:
    def second_fails(config: DictConfig) -> Any:
        if len(jobs) != 2:
            return compute_parabola(config)
        if isinstance(bad, Exception):
            raise bad
        return bad

    command = ["x=interval(0,2)", "hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=4"]
    outcome = sweep(second_fails, *command)
    assert list_states(tmp_path) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert outcome.complete == 3
    ((number, overrides, problem),) = outcome.failed
    assert (number, overrides) == (1, [f"x={jobs[1]['x']}"])
    assert problem == load_study(tmp_path).trials[1].user_attrs["error"]
    assert ("ValueError: broken" if isinstance(bad, Exception) else str(bad)) in problem
    assert sweep(second_fails, *command).complete == 4
    assert len(list_proposed(jobs)) == 5


def test_a_search_ends_when_too_many_of_a_batch_failed(sweep: Sweep, jobs: list[dict[str, Any]]) -> None:
    outcome = sweep(
        lambda config: math.nan, "x=interval(0,2)", "hydra.sweeper.n_trials=9", "hydra.sweeper.n_jobs=3",
        "hydra.sweeper.max_failure_rate=0.5",
    )  # fmt: skip
    assert len(jobs) == len(outcome.failed) == 3
    assert outcome.best_value is None


def test_trials_that_a_killed_process_left_running_have_failed(sweep: Sweep, tmp_path: Path) -> None:
    command = ["x=interval(0,2)", "hydra.sweeper.study_name=s"]
    sweep(compute_parabola, *command, "hydra.sweeper.n_trials=2")
    load_study(tmp_path).ask({"x": FloatDistribution(0, 2)})  # what a kill -9 leaves
    assert list_states(tmp_path)[-1] == "RUNNING"
    sweep(compute_parabola, *command, "hydra.sweeper.n_trials=3")
    assert list_states(tmp_path) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


def test_an_interrupted_search_leaves_no_trial_running(sweep: Sweep, tmp_path: Path) -> None:
    def interrupted(config: DictConfig) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(interrupted, "x=interval(0,2)", "hydra.sweeper.study_name=s", "hydra.sweeper.n_jobs=2")
    assert list_states(tmp_path) == ["FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["x=interval(0,2)", "hydra.sweeper.direction=maximize"], "direction: minimize in the study, maximize now"),
        (["x=interval(0,3)"], "x: numbers 0.0 to 2.0 in the study, numbers 0.0 to 3.0 now"),
        (["x=1,2"], r"x: numbers 0.0 to 2.0 in the study, choice\(1,2\) now"),
        (["x=interval(0,2)", "depth=range(3,5)"], "depth: not swept in the study, whole numbers 3 to 4 by 1 now"),
        (["depth=range(3,5)"], "x: numbers 0.0 to 2.0 in the study, not swept now"),
        (["x=interval(0,2)", "kind=log2"], "not swept: none in the study, kind=log2 now"),
    ],
)
def test_a_study_that_searched_something_else_is_refused(
    sweep: Sweep, jobs: list[dict[str, Any]], changed: list[str], message: str
) -> None:
    named = ["hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=2"]
    sweep(compute_parabola, "x=interval(0,2)", *named)
    with pytest.raises(ConfigError, match=message) as refused:
        sweep(compute_parabola, *changed, *named)
    assert "another study name" in str(refused.value)
    assert len(jobs) == 2


def test_a_study_goes_on_where_only_the_way_jobs_run_has_changed(sweep: Sweep) -> None:
    named = ["x=interval(0,2)", "hydra.sweeper.study_name=s"]
    sweep(compute_parabola, *named, "hydra.sweeper.n_trials=1")
    assert sweep(compute_parabola, *named, "+main.launcher=subprocess", "hydra.sweeper.n_trials=2").complete == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("direction=up", "minimize or maximize"),
        ("n_trials=0", r"hydra\.sweeper\.n_trials: must be 1 or more \(found 0\)"),
        ("n_jobs=0", r"hydra\.sweeper\.n_jobs: must be 1 or more \(found 0\)"),
        ("storage='postgresql://me:secret@127.0.0.1:1/x'", "127.0.0.1:1/x cannot be opened"),
        ("storage=nonsense", "cannot be opened"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_line(sweep: Sweep, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        sweep(compute_parabola, "x=interval(0,2)", "hydra.sweeper.n_trials=3", f"hydra.sweeper.{setting}")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("sweeper.sampler.n_startup_trial", "sweeper.sampler.n_startup_trials"),
        ("sweeper.n_trial", "sweeper.n_trials"),
        ("launcher.n_job", "launcher.n_jobs"),
    ],
)
def test_a_setting_that_a_plus_lets_hydra_take_is_refused(
    sweep: Sweep, jobs: list[dict[str, Any]], mistyped: str, meant: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"^hydra\.{mistyped}: unknown configuration key; did you mean 'hydra\.{meant}'\?"
    ):
        sweep(compute_parabola, "x=interval(0,2)", "hydra/launcher=threads", f"+hydra.{mistyped}=2")
    assert jobs == []


def test_an_unknown_key_is_refused_before_any_job(sweep: Sweep, jobs: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(HydraException, match="nowhere"):
        sweep(compute_parabola, "nowhere=1,2", "hydra.sweeper.study_name=s")
    assert (jobs, list_states(tmp_path)) == ([], ["FAIL"])


def test_params_of_a_file_are_swept_and_the_command_line_wins(sweep: Sweep, jobs: list[dict[str, Any]]) -> None:
    params = "+hydra.sweeper.params={x: 'interval(0,2)', depth: '3,4'}"
    sweep(compute_parabola, params, "depth=9", "hydra.sweeper.n_trials=3")
    assert {job["depth"] for job in jobs} == {9}
    assert len({job["x"] for job in jobs}) == 3


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"study_name": "s"}, f"sqlite:///{ROOT / 'outputs' / 'studies.db'}"),
        ({"storage": "sqlite:///outputs/a.db"}, f"sqlite:///{ROOT / 'outputs' / 'a.db'}"),
        ({"storage": "postgresql://here/x"}, "postgresql://here/x"),
        ({}, None),
    ],
)
def test_a_study_with_a_name_is_kept_in_the_repository_and_one_without_in_memory(
    settings: dict[str, str], address: str | None
) -> None:
    assert prepare_storage(SearchSettings(**settings)) == address  # type: ignore[arg-type]  # no number is among them


def test_jobs_have_the_numbers_of_their_trials(sweep: Sweep, tmp_path: Path) -> None:
    numbers: list[int] = []

    def numbered(config: DictConfig) -> float:
        from hydra.core.hydra_config import HydraConfig

        numbers.append(int(HydraConfig.get().job.num))
        return compute_parabola(config)

    named = ["x=interval(0,2)", "hydra.sweeper.study_name=s", "hydra.sweeper.n_jobs=2"]
    sweep(numbered, *named, "hydra.sweeper.n_trials=3")
    sweep(numbered, *named, "hydra.sweeper.n_trials=5")
    # the best trial of the first command runs again at the end of the second
    assert numbers[:5] == [0, 1, 2, 3, 4]
    assert numbers[5:] in ([], [0], [1], [2])
    assert [trial.number for trial in load_study(tmp_path).get_trials(states=[TrialState.COMPLETE])] == numbers[:5]
