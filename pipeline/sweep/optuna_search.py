"""Search of hydra/sweeper=optuna: each job is a trial, and a study with a name is stored and can be resumed.

hydra-optuna-sweeper requires Optuna 2.10, which cannot store a study with SQLAlchemy 2, the version of our locks: it
never commits the version of its tables.
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
from pipeline.sweep.unused_overrides import drop_unused
from stepkit.paths import find_sqlite_file, resolve_store_url
from stepkit.secret_urls import hide_secrets, hide_secrets_in_text

DEFAULT_STORAGE = "sqlite:///outputs/studies.db"
RESULTS_FILE = "optimization_results.yaml"
FIXED, OVERRIDES, ERROR = "fixed", "overrides", "error"
"""Attributes stored with a study (the overrides that are not swept), with a trial, and with a failed trial."""

EXECUTION_KEYS = (
    "main.mlflow_tracking_url", "main.experiment_name", "main.launcher", "main.reuse", "main.rerun",
)  # fmt: skip
"""Keys that do not change the result of a job. A study can be resumed with other values of these keys."""


def open_study(settings: SearchSettings, space: Space) -> optuna.Study:
    """Create the study, or resume a stored study of this name. Fail the trials that a killed process left running.

    Raises:
        ConfigError: the storage cannot be opened, or has a study of this name with another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = prepare_storage(settings)
    storage = hide_secrets(url) if url else "memory"
    try:
        study = optuna.create_study(
            storage=url,
            study_name=settings.study_name,
            direction=StudyDirection[settings.direction.upper()],
            load_if_exists=True,
        )
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        reason = hide_secrets_in_text(str(error.__cause__ or error).splitlines()[0], url or "")
        raise ConfigError(f"hydra.sweeper.storage: {storage} cannot be opened: {reason}") from error
    _verify_same_search(study, settings.direction, space, storage)
    for trial in _list_trials(study, TrialState.RUNNING):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def prepare_storage(settings: SearchSettings) -> str | None:
    """Return the URL of the storage, or None for memory. A file path is relative to the repository root."""
    url = settings.storage or (DEFAULT_STORAGE if settings.study_name else None)
    if file := find_sqlite_file(url or ""):
        file.parent.mkdir(parents=True, exist_ok=True)
    return url and resolve_store_url(url)


def _list_trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states or None)


def _verify_same_search(study: optuna.Study, direction: str, space: Space, storage: str) -> None:
    """Raise ConfigError if the direction, the search space or the fixed overrides differ from those of the study."""
    now = {key: describe_distribution(distribution) for key, distribution in space.distributions.items()}
    stored: dict[str, str] = {}
    for trial in _list_trials(study):
        stored |= {key: describe_distribution(distribution) for key, distribution in trial.distributions.items()}
    stored = stored or now
    compared_overrides = [
        override for override in space.fixed if override.lstrip("+").partition("=")[0] not in EXECUTION_KEYS
    ]
    fixed = " ".join(sorted(compared_overrides))
    if FIXED not in study.user_attrs:
        study.set_user_attr(FIXED, fixed)
    compared = [
        ("direction", study.direction.name.lower(), direction),
        *((key, stored.get(key, "not swept"), now.get(key, "not swept")) for key in {**stored, **now}),
        ("overrides that are not swept", study.user_attrs[FIXED] or "none", fixed or "none"),
    ]
    for subject, before, current in compared:
        if before != current:
            raise ConfigError(
                f"hydra.sweeper.study_name: study '{study.study_name}' in {storage} is another search: {subject}: "
                f"{before} in the study, {current} now. Use the same overrides again or another study name."
            )


@dataclass
class Search:
    """Search of one command.

    Attributes:
        sweeper: Hydra's sweeper, which has the configuration and the launcher.
        settings: settings of the search.
        space: overrides of the search.
        study: Optuna's study.
        folder: folder for Hydra's files about the sweep.
        first: number of the first trial of this command.
        failed: number, overrides and error of each failed trial of this command.
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
            ConfigError: the settings, the search space, the storage or the stored study cannot be used.
        """
        _verify_settings(settings)
        parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
        configured = [f"{key}={value}" for key, value in settings.params.items()]
        space = build_space(parser.parse_overrides([*configured, *arguments]))
        study = open_study(settings, space)
        folder = Path(str(sweeper.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(sweeper.config, folder / "multirun.yaml")  # as Hydra's own sweeper does
        return Search(sweeper, settings, space, study, folder, len(_list_trials(study)))

    @property
    def complete(self) -> int:
        """Number of trials with a value in the study, of this command and of earlier ones."""
        return len(_list_trials(self.study, TrialState.COMPLETE))

    @property
    def best_value(self) -> float | None:
        """Best value in the study, or None without any value."""
        return self.study.best_value if self.complete else None

    @property
    def progress(self) -> str:
        """Progress of the study over all commands, in one line."""
        best = "" if self.best_value is None else f", best {self.best_value:.4f}"
        retry = f"; {len(self.failed)} failed, run the same command again to replace them" if self.failed else ""
        return f"study {self.study.study_name}: {self.complete} of {self.settings.n_trials} trials{best}{retry}"

    def run(self) -> list[Sequence[JobReturn]]:
        """Run the trials that the study still needs; return the results of each batch.

        A failed job is a failed trial, and the search continues. The same command again replaces failed trials. The
        best trial is written to the same file as hydra-optuna-sweeper writes.
        """
        results = [*self._iter_batches(), *self._rerun_earlier_best()]
        if self.complete:
            best = self.study.best_trial
            best_trial = {"name": "optuna", "best_params": best.params, "best_value": best.value}
            OmegaConf.save(OmegaConf.create(best_trial), self.folder / RESULTS_FILE)
        return results

    def _iter_batches(self) -> Iterator[Sequence[JobReturn]]:
        """Run as many trials as are missing at the start, so that a search whose jobs all fail ends too."""
        missing = self.settings.n_trials - self.complete
        for begin in range(0, missing, self.settings.n_jobs):
            trials = self._ask(min(self.settings.n_jobs, missing - begin))
            jobs = self._launch(trials, is_first=begin == 0)
            failed = [not self._record(trial, job) for trial, job in zip(trials, jobs, strict=True)]
            yield jobs
            if sum(failed) / len(jobs) > self.settings.max_failure_rate:
                return

    def _rerun_earlier_best(self) -> Iterator[Sequence[JobReturn]]:
        """Run the best trial of the study again if an earlier command ran it; its steps are reused.

        The best job of this command is then the best trial of the study, and is evaluated and registered.
        """
        if self.complete and self.study.best_trial.number < self.first:
            best = self.study.best_trial
            jobs = drop_unused(self.sweeper.config, [self.space.build_overrides(best.params)])
            yield self.sweeper.launcher.launch(jobs, initial_job_idx=best.number)

    def _ask(self, size: int) -> list[Trial]:
        """Ask the study for trials.

        Each call has its own seed, so that an interrupted search continues as if it had not been interrupted. A single
        sampler for the search would start from scratch in each process and propose its first values again.
        """
        sampler = self.settings.sampler
        seed = compute_seed(sampler.seed, len(_list_trials(self.study)))
        self.study.sampler = TPESampler(seed=seed, n_startup_trials=sampler.n_startup_trials)
        return [self.study.ask(self.space.distributions) for _ in range(size)]

    def _launch(self, trials: list[Trial], is_first: bool) -> Sequence[JobReturn]:
        """Run the jobs of some trials in parallel; each job has the number of its trial."""
        overrides = [self.space.build_overrides(trial.params) for trial in trials]
        try:
            for trial, job_overrides in zip(trials, overrides, strict=True):
                trial.set_user_attr(OVERRIDES, job_overrides)
            if is_first:  # All batches have the same keys.
                self.sweeper.validate_batch_is_legal(overrides)
            # Trials that differ only in settings of another kind of model share the model step of the first one.
            jobs = drop_unused(self.sweeper.config, overrides)
            return self.sweeper.launcher.launch(jobs, initial_job_idx=trials[0].number)
        except BaseException:
            for trial in trials:
                self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise

    def _record(self, trial: Trial, job: JobReturn) -> bool:
        """Record the result of a job in the study; return whether it has a value."""
        value, problem = read_value(job)
        if problem:
            trial.set_user_attr(ERROR, problem)
            self.failed.append((trial.number, self.space.build_overrides(trial.params), problem))
        state = TrialState.FAIL if problem else TrialState.COMPLETE
        self.study.tell(trial, value, state, skip_if_finished=True)
        return not problem


def _verify_settings(settings: SearchSettings) -> None:
    if settings.direction not in ("minimize", "maximize"):
        raise ConfigError(f"hydra.sweeper.direction: must be minimize or maximize (found {settings.direction})")
    for name in ("n_trials", "n_jobs"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"hydra.sweeper.{name}: must be 1 or more (found {getattr(settings, name)})")


def compute_seed(seed: int | None, trial: int) -> int | None:
    """Return the seed of a trial, which differs from the seeds of all trials of another seed; a sum could be equal."""
    return None if seed is None else int(np.random.SeedSequence((seed, trial)).generate_state(1)[0])


def read_value(job: JobReturn) -> tuple[float | None, str]:
    """Return the objective of a job, or None and the reason why it has none."""
    result = job._return_value  # return_value would raise the job's error and print it
    if job.status != JobStatus.COMPLETED:
        return None, f"{type(result).__name__}: {result}"
    if isinstance(result, Real) and not math.isnan(result):
        return float(result), ""
    return None, f"the job returned {result} instead of a number"
