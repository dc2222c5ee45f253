"""The search behind hydra/sweeper=optuna: jobs are Optuna's trials, and a study with a name is kept and goes on.

hydra-optuna-sweeper holds Optuna at 2.10, which cannot keep a study under SQLAlchemy 2 (it never commits the version
of its tables), and SQLAlchemy 2 is what the locks have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

import numpy as np
import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.exceptions import StorageInternalError
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config import ConfigError
from pipeline.sweep.plugin_bases import LaunchingSweeper
from pipeline.sweep.plugin_settings import SearchSettings
from pipeline.sweep.search_space import Space, build_space, describe_distribution
from stepkit.paths import find_sqlite_file, resolve_store_url
from stepkit.secret_urls import hide_secrets as shown_url
from stepkit.secret_urls import hide_secrets_in_text

DEFAULT_STORAGE = "sqlite:///outputs/studies.db"
RESULTS_FILE = "optimization_results.yaml"
FIXED, OVERRIDES, ERROR = "fixed", "overrides", "error"
"""What is kept with a study (the overrides that are not swept), with a trial, and with a failed one."""

EXECUTION_KEYS = (
    "main.mlflow_tracking_url", "main.experiment_name", "main.launcher", "main.reuse", "main.rerun",
)  # fmt: skip
"""Keys that do not change what a job finds: a study may go on with other values of these."""


def open_study(settings: SearchSettings, space: Space) -> optuna.Study:
    """Create the study, or resume the one of that name; trials that a killed process left running have failed.

    Raises:
        ConfigError: the storage cannot be opened, or holds a study of this name that searched something else.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address = prepare_storage(settings)
    where = shown_url(address) if address else "memory"
    try:
        study = optuna.create_study(
            storage=address,
            study_name=settings.study_name,
            direction=StudyDirection[settings.direction.upper()],
            load_if_exists=True,
        )
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        reason = hide_secrets_in_text(str(error.__cause__ or error).splitlines()[0], address or "")
        raise ConfigError(f"hydra.sweeper.storage: {where} cannot be opened: {reason}") from error
    _verify_same_search(study, settings.direction, space, where)
    for trial in _list_trials(study, TrialState.RUNNING):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def prepare_storage(settings: SearchSettings) -> str | None:
    """Return the address of the storage; a file is relative to the repository, wherever the command was typed."""
    address = settings.storage or (DEFAULT_STORAGE if settings.study_name else None)
    if file := find_sqlite_file(address or ""):
        file.parent.mkdir(parents=True, exist_ok=True)
    return address and resolve_store_url(address)


def _list_trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states or None)


def _verify_same_search(study: optuna.Study, direction: str, space: Space, where: str) -> None:
    """Raise ConfigError if direction, space or fixed overrides are not those with which the study began."""
    now = {key: describe_distribution(one) for key, one in space.distributions.items()}
    then = {
        key: describe_distribution(one) for trial in _list_trials(study) for key, one in trial.distributions.items()
    } or now
    fixed = " ".join(sorted(one for one in space.fixed if one.lstrip("+").partition("=")[0] not in EXECUTION_KEYS))
    if FIXED not in study.user_attrs:
        study.set_user_attr(FIXED, fixed)
    compared = [
        ("direction", study.direction.name.lower(), direction),
        *((key, then.get(key, "not swept"), now.get(key, "not swept")) for key in {**then, **now}),
        ("overrides that are not swept", study.user_attrs[FIXED] or "none", fixed or "none"),
    ]
    for what, before, wanted in compared:
        if before != wanted:
            raise ConfigError(
                f"the study '{study.study_name}' in {where} searched something else: {what}: {before} then, "
                f"{wanted} now. Give the overrides of then, or another hydra.sweeper.study_name"
            )


@dataclass
class Search:
    """The search of one command.

    Attributes:
        folder: where Hydra keeps its notes of the sweep.
        first: number of the first trial of this command.
        failed: for each trial of this command without a value its number, its overrides, and why.
    """

    sweeper: LaunchingSweeper
    settings: SearchSettings
    space: Space
    study: optuna.Study
    folder: Path
    first: int
    failed: list[tuple[int, list[str], str]] = field(default_factory=list)

    @staticmethod
    def begin(sweeper: LaunchingSweeper, settings: SearchSettings, arguments: list[str]) -> Search:
        """Open the study for the swept overrides of a command.

        Raises:
            ConfigError: settings, space, storage or stored study cannot be used.
        """
        _verify_settings(settings)
        parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in settings.params.items()]
        space = build_space(parser.parse_overrides([*given, *arguments]))
        study = open_study(settings, space)
        folder = Path(str(sweeper.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(sweeper.config, folder / "multirun.yaml")  # as Hydra's own sweeper does
        return Search(sweeper, settings, space, study, folder, len(_list_trials(study)))

    @property
    def complete(self) -> int:
        """How many trials with a value the study has, of this command and of earlier ones."""
        return len(_list_trials(self.study, TrialState.COMPLETE))

    @property
    def best_value(self) -> float | None:
        return self.study.best_value if self.complete else None

    @property
    def progress(self) -> str:
        """How far the study is: it may have begun before this command, or have to go on after it."""
        best = "" if self.best_value is None else f"{self.best_value:.4f}"
        retry = f"; {len(self.failed)} failed, the same command again makes up for them" if self.failed else ""
        return f"study {self.study.study_name}: {self.complete} of {self.settings.n_trials} trials, best {best}{retry}"

    def run(self) -> list[Sequence[JobReturn]]:
        """Run the trials that the study still lacks; return what the launcher returned for each batch.

        A failed job is a failed trial, and the search goes on; the same command again makes up for it. The best is
        left in the file that hydra-optuna-sweeper leaves.
        """
        returned = [*self._iter_batches(), *self._rerun_earlier_best()]
        if self.complete:
            best = self.study.best_trial
            found = {"name": "optuna", "best_params": best.params, "best_value": best.value}
            OmegaConf.save(OmegaConf.create(found), self.folder / RESULTS_FILE)
        return returned

    def _iter_batches(self) -> Iterator[Sequence[JobReturn]]:
        """Run as many trials as are lacking at the start, so that a search whose jobs all fail ends too."""
        lacking = self.settings.n_trials - self.complete
        for begin in range(0, lacking, self.settings.n_jobs):
            trials = self._ask(min(self.settings.n_jobs, lacking - begin))
            jobs = self._launch(trials, is_first=begin == 0)
            failed = [not self._record(trial, job) for trial, job in zip(trials, jobs, strict=True)]
            yield jobs
            if sum(failed) / len(jobs) > self.settings.max_failure_rate:
                return

    def _rerun_earlier_best(self) -> Iterator[Sequence[JobReturn]]:
        """Run the study's best trial again if an earlier command found it: what it did then is reused.

        So the best job of this command is the best one of the study, and is carried to the end with it.
        """
        if self.complete and self.study.best_trial.number < self.first:
            best = self.study.best_trial
            yield self.sweeper.launcher.launch([self.space.build_overrides(best.params)], initial_job_idx=best.number)

    def _ask(self, size: int) -> list[Trial]:
        """Ask for trials with a seed of their own, so that a search continues as if it had not been interrupted.

        One sampler for the whole search would start again in each process, and propose its first values again.
        """
        sampler = self.settings.sampler
        seed = compute_seed(sampler.seed, len(_list_trials(self.study)))
        self.study.sampler = TPESampler(seed=seed, n_startup_trials=sampler.n_startup_trials)
        return [self.study.ask(self.space.distributions) for _ in range(size)]

    def _launch(self, trials: list[Trial], is_first: bool) -> Sequence[JobReturn]:
        """Run the jobs of some trials side by side, each with the number of its trial."""
        overrides = [self.space.build_overrides(trial.params) for trial in trials]
        try:
            for trial, own in zip(trials, overrides, strict=True):
                trial.set_user_attr(OVERRIDES, own)
            if is_first:  # the keys are the same in every batch
                self.sweeper.validate_batch_is_legal(overrides)
            return self.sweeper.launcher.launch(overrides, initial_job_idx=trials[0].number)
        except BaseException:
            for trial in trials:
                self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise

    def _record(self, trial: Trial, job: JobReturn) -> bool:
        """Record with the study what a job returned; return whether it is a value."""
        value, problem = read_value(job)
        if problem:
            trial.set_user_attr(ERROR, problem)
            self.failed.append((trial.number, self.space.build_overrides(trial.params), problem))
        state = TrialState.FAIL if problem else TrialState.COMPLETE
        self.study.tell(trial, value, state, skip_if_finished=True)
        return not problem


def _verify_settings(settings: SearchSettings) -> None:
    if settings.direction not in ("minimize", "maximize"):
        raise ConfigError(f"hydra.sweeper.direction must be minimize or maximize (found: {settings.direction})")
    for name in ("n_trials", "n_jobs"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"hydra.sweeper.{name} must be 1 or more (found: {getattr(settings, name)})")


def compute_seed(seed: int | None, trial: int) -> int | None:
    """Return a trial's own seed, unlike those of the trials of another seed (a sum would not be)."""
    return None if seed is None else int(np.random.SeedSequence((seed, trial)).generate_state(1)[0])


def read_value(job: JobReturn) -> tuple[float | None, str]:
    """Return the objective that a job found, or None and why it found none."""
    result = job._return_value  # return_value would raise what a failed job raised, and print about it
    if job.status != JobStatus.COMPLETED:
        return None, f"{type(result).__name__}: {result}"
    if isinstance(result, Real) and not math.isnan(result):
        return float(result), ""
    return None, f"the job returned {result} instead of a number"
