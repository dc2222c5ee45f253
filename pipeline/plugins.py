"""Hydra's plugins of this package: the search with Optuna (hydra/sweeper=optuna), jobs on Ray (hydra/launcher=ray),
jobs side by side in this process (hydra/launcher=threads).

Here stand their settings and their names only. Every command imports this module; what does the work, and the
libraries behind it, are imported when a sweep asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.launcher import Launcher
from hydra.plugins.plugin import Plugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import II, DictConfig

from stepkit.description import expect_yaml
from stepkit.errors import BadParameter

S = TypeVar("S")
NAMESPACE = "hydra_plugins"
"""Hydra 1.3 instantiates no plugin whose name begins otherwise, be it registered or not (hydra issue 3015)."""


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


def read(kind: type[S], given: Mapping[str, Any], where: str) -> S:
    """Return the settings of a plugin as Hydra hands them over.

    Raises:
        ConfigError: there is no such key; with a + in front Hydra takes any.
    """
    from pipeline.config import ConfigError, suggestion

    known = [f"{where}.{one.name}" for one in fields(kind) if not one.name.startswith("_")]  # type: ignore[arg-type]
    for name in given:
        if (key := f"{where}.{name}") not in known:
            raise ConfigError(f"unknown configuration key '{key}'{suggestion(key, known)}")
    return kind(**given)


class OptunaSweeper(Sweeper):
    """Search the swept overrides with Optuna; the work is in pipeline/search.py."""

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from pipeline.search import search

        sampler = read(SamplerSettings, self.settings["sampler"], "hydra.sweeper.sampler")
        settings = read(SearchSettings, {**self.settings, "sampler": sampler}, "hydra.sweeper")
        return search(self, settings, arguments)


class RayLauncher(Launcher):
    """Run each job of a sweep as a task of Ray's; the work is in pipeline/cluster.py."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from pipeline.cluster import launch

        return launch(self, read(RaySettings, self.settings, "hydra.launcher"), job_overrides, initial_job_idx)


class ThreadsLauncher(Launcher):
    """Run jobs side by side in this process, where their steps start warm; the work is in pipeline/threads.py."""

    config: DictConfig
    hydra_context: HydraContext

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from pipeline.threads import launch

        return launch(self, read(ThreadsSettings, self.settings, "hydra.launcher"), job_overrides, initial_job_idx)


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's reader of YAML files, under the name that Hydra insists on, with one message for a file that is wrong."""

    def load_config(self, config_path: str) -> ConfigResult:
        from pipeline.config import ConfigError, Data

        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            if path.is_file():
                expect_yaml(path, Data if config_path.startswith("data/") else None)
        except BadParameter as error:
            raise ConfigError(str(error)) from error
        return super().load_config(config_path)


def register_plugins() -> None:
    """Make our reader, sweeper and launchers known to Hydra; to be called before hydra.main's function."""
    Plugins.instance()  # registers Hydra's own reader, which ours replaces
    SourcesRegistry.instance().types["file"] = FileConfigSource
    _register("hydra/sweeper", "optuna", OptunaSweeper, SearchSettings)
    _register("hydra/launcher", "ray", RayLauncher, RaySettings)
    _register("hydra/launcher", "threads", ThreadsLauncher, ThreadsSettings)


def _register(group: str, name: str, plugin: type[Plugin], settings: type) -> None:
    plugins = Plugins.instance()
    plugins.register(plugin)
    # under the name by which Hydra instantiates it; its module stays what it is, or it could not be pickled
    plugins.class_name_to_class[f"{NAMESPACE}.pipeline.{plugin.__name__}"] = plugin
    ConfigStore.instance().store(group=group, name=name, node=settings, provider="pipeline")
