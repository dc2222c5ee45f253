"""Settings of the Hydra plugins: the search with Optuna, jobs on Ray, jobs in threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from omegaconf import II

from pipeline.config import ConfigError, suggest_key

S = TypeVar("S")
NAMESPACE = "hydra_plugins"
"""Prefix without which Hydra 1.3 does not instantiate a plugin, even a registered one (hydra issue 3015)."""


class PluginSettings(Protocol):
    """Settings of a plugin; Hydra instantiates the class that `_target_` names."""

    _target_: str


@dataclass
class SamplerSettings:
    """Settings of Optuna's TPE sampler.

    Attributes:
        seed: seed of the proposed values; the same seed gives the same values again.
        n_startup_trials: number of random trials before the sampler uses earlier results.
    """

    seed: int | None = II("oc.select:main.random_seed,42")
    n_startup_trials: int = 10


@dataclass
class GridSettings:
    """Settings of hydra/sweeper=basic, the default: every combination of the swept values, as in Hydra."""

    _target_: str = f"{NAMESPACE}.pipeline.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class SearchSettings:
    """Settings of hydra/sweeper=optuna (key hydra.sweeper), with the names of hydra-optuna-sweeper.

    Attributes:
        sampler: settings of the sampler.
        direction: minimize or maximize.
        storage: SQLAlchemy URL of the studies; null: outputs/studies.db, or memory for a study without a name.
        study_name: name of a stored study; the same command again resumes it. null: the study is not stored.
        n_trials: total number of finished trials that the study should have.
        n_jobs: number of trials per batch; the values of a batch are proposed before any of its jobs runs.
        params: swept and fixed overrides from a file; the command line overrides them.
        max_failure_rate: largest share of failed trials in a batch; above it, the search ends.
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
    """Settings of hydra/launcher=ray (key hydra.launcher).

    Attributes:
        address: host:port of a running cluster; null: RAY_ADDRESS, else a Ray on this machine for this sweep only.
        num_cpus: number of cores per job.
        max_retries: number of times that Ray restarts a job whose worker was killed.
        working_dir: folder that Ray sends to the workers; null: the repository.
        env: more environment variables for the workers.
    """

    _target_: str = f"{NAMESPACE}.pipeline.RayLauncher"
    address: str | None = None
    num_cpus: float = 1
    max_retries: int = 0
    working_dir: str | None = None
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class ThreadsSettings:
    """Settings of hydra/launcher=threads (key hydra.launcher), the default of config.yaml.

    Attributes:
        n_jobs: number of jobs that run in parallel. A fit uses all cores, the other steps of a job only one.
    """

    _target_: str = f"{NAMESPACE}.pipeline.ThreadsLauncher"
    n_jobs: int = 2


def parse_settings(kind: type[S], values: Mapping[str, Any], prefix: str) -> S:
    """Return the settings of a plugin from the values that Hydra passes to it.

    Args:
        kind: class of the settings.
        values: values by name.
        prefix: configuration key of the plugin.

    Raises:
        ConfigError: a key is unknown; Hydra accepts any key with a plus sign.
    """
    names = [setting.name for setting in fields(kind)]  # type: ignore[arg-type]  # every kind is a dataclass
    keys = [f"{prefix}.{name}" for name in names if not name.startswith("_")]
    for name in values:
        if (key := f"{prefix}.{name}") not in keys:
            raise ConfigError(f"{key}: unknown configuration key{suggest_key(key, keys)}")
    return kind(**values)
