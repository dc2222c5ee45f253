"""Settings of the Hydra plugins: the search with Optuna, jobs on Ray, jobs in threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from omegaconf import II

from pipeline.config import ConfigError, suggest_key

S = TypeVar("S")
NAMESPACE = "hydra_plugins"
"""Hydra 1.3 instantiates only plugins whose name begins with this, even registered ones (hydra issue 3015)."""


class PluginSettings(Protocol):
    """Settings of a plugin that Hydra instantiates by the name `_target_`."""

    _target_: str


@dataclass
class SamplerSettings:
    """Optuna's TPE sampler.

    Attributes:
        seed: the same seed proposes the same values again.
        n_startup_trials: so many trials are drawn at random before the search goes by what it has found.
    """

    seed: int | None = II("oc.select:main.random_seed,42")
    n_startup_trials: int = 10


@dataclass
class GridSettings:
    """hydra.sweeper of hydra/sweeper=basic, the default: every combination of the swept values; settings as Hydra's."""

    _target_: str = f"{NAMESPACE}.pipeline.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class SearchSettings:
    """hydra.sweeper of hydra/sweeper=optuna; the names are those of hydra-optuna-sweeper.

    Attributes:
        direction: minimize or maximize.
        storage: SQLAlchemy address of the studies; null: outputs/studies.db, or memory for a study without a name.
        study_name: a study with a name is kept, and the same command again goes on with it.
        n_trials: how many finished trials the study shall have in all.
        n_jobs: how many trials are handed to the launcher at a time; what they have in common is decided before.
        params: swept and fixed overrides in a file, as on the command line, which wins over them.
        max_failure_rate: the search ends when a larger share of the trials of one batch failed.
    """

    _target_: str = f"{NAMESPACE}.pipeline.OptunaSweeper"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    direction: str = II("oc.select:sweep.direction,minimize")
    storage: str | None = None
    study_name: str | None = None
    n_trials: int = 20
    n_jobs: int = 1
    params: dict[str, str] = field(default_factory=dict)
    max_failure_rate: float = 1.0


@dataclass
class RaySettings:
    """hydra.launcher of hydra/launcher=ray.

    Attributes:
        address: host:port of a running cluster; null: RAY_ADDRESS, else a Ray of this machine's for this sweep only.
        num_cpus: cores that a job occupies.
        max_retries: how often Ray begins a job again whose worker was killed.
        working_dir: the folder that Ray sends to the workers; null: the repository.
        env: further environment variables of the workers.
    """

    _target_: str = f"{NAMESPACE}.pipeline.RayLauncher"
    address: str | None = None
    num_cpus: float = 1
    max_retries: int = 0
    working_dir: str | None = None
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class ThreadsSettings:
    """hydra.launcher of hydra/launcher=threads, the one that config.yaml chooses.

    Attributes:
        n_jobs: how many jobs run side by side. A fit takes all cores, the rest of a job but one.
    """

    _target_: str = f"{NAMESPACE}.pipeline.ThreadsLauncher"
    n_jobs: int = 2


def parse_settings(kind: type[S], given: Mapping[str, Any], where: str) -> S:
    """Return the settings of a plugin as Hydra hands them over.

    Raises:
        ConfigError: there is no such key; with a + in front Hydra takes any.
    """
    known = [f"{where}.{one.name}" for one in fields(kind) if not one.name.startswith("_")]  # type: ignore[arg-type]
    for name in given:
        if (key := f"{where}.{name}") not in known:
            raise ConfigError(f"unknown configuration key '{key}'{suggest_key(key, known)}")
    return kind(**given)
