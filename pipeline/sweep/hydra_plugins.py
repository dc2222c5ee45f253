"""Hydra's plugins of this package: the search with Optuna (hydra/sweeper=optuna), jobs on Ray (hydra/launcher=ray),
jobs side by side in this process (hydra/launcher=threads).

Every command imports this module. The modules that do the work, and their libraries, are imported when a sweep needs
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from omegaconf import DictConfig

from pipeline.sweep.plugin_settings import (
    NAMESPACE,
    RaySettings,
    SamplerSettings,
    SearchSettings,
    ThreadsSettings,
    read,
)
from stepkit.errors import BadParameter
from stepkit.table.description import expect_yaml


class OptunaSweeper(Sweeper):
    """Search the swept overrides with Optuna."""

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
        from pipeline.sweep.optuna_search import search

        sampler = read(SamplerSettings, self.settings["sampler"], "hydra.sweeper.sampler")
        settings = read(SearchSettings, {**self.settings, "sampler": sampler}, "hydra.sweeper")
        return search(self, settings, arguments)


class _Launcher(Launcher):
    """Launcher that keeps what Hydra hands to its `setup`."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function


class RayLauncher(_Launcher):
    """Run each job of a sweep as a Ray task."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from pipeline.sweep.launch_ray import launch

        return launch(self, read(RaySettings, self.settings, "hydra.launcher"), job_overrides, initial_job_idx)


class ThreadsLauncher(_Launcher):
    """Run jobs in threads of this process, whose forkserver starts their steps."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from pipeline.sweep.launch_threads import launch

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
