"""Hydra plugins of this package.

Sweepers: all combinations (hydra/sweeper=basic) and a search with Optuna (hydra/sweeper=optuna).
Launchers: threads of this process (hydra/launcher=threads) and a Ray cluster (hydra/launcher=ray).
"""

from __future__ import annotations

from pathlib import Path

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.plugin import Plugin

from pipeline.config import ConfigError, Data
from pipeline.sweep.launch_ray import RayLauncher
from pipeline.sweep.launch_threads import ThreadsLauncher
from pipeline.sweep.plugin_settings import GridSettings, PluginSettings, RaySettings, SearchSettings, ThreadsSettings
from pipeline.sweep.sweep import GridSweeper, OptunaSweeper
from stepkit.errors import BadParameter
from stepkit.table.description import verify_yaml


class FileConfigSource(file_config_source.FileConfigSource):
    """Reader of YAML files with a one-line message for an invalid file. Hydra requires the name of this class."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file; raise ConfigError if it is not valid YAML."""
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            if path.is_file():
                verify_yaml(path, Data if config_path.startswith("data/") else None)
        except BadParameter as error:
            raise ConfigError(str(error)) from error
        return super().load_config(config_path)


def register_plugins() -> None:
    """Register our reader, sweepers and launchers with Hydra. Call this before the function of hydra.main."""
    Plugins.instance()  # registers Hydra's own reader, which ours replaces
    SourcesRegistry.instance().types["file"] = FileConfigSource
    register_plugin("hydra/sweeper", "basic", GridSweeper, GridSettings)
    register_plugin("hydra/sweeper", "optuna", OptunaSweeper, SearchSettings)
    register_plugin("hydra/launcher", "ray", RayLauncher, RaySettings)
    register_plugin("hydra/launcher", "threads", ThreadsLauncher, ThreadsSettings)


def register_plugin(group: str, name: str, plugin: type[Plugin], settings: type[PluginSettings]) -> None:
    """Register a plugin for `group`=`name` under the name in its settings.

    The plugin keeps its own module name, because pickle needs it.
    """
    plugins = Plugins.instance()
    plugins.register(plugin)
    plugins.class_name_to_class[settings._target_] = plugin
    ConfigStore.instance().store(group=group, name=name, node=settings, provider="pipeline")
