"""Configurations of the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, open_dict

from pipeline.sweep.plugin_settings import ReadyLauncher


def composed(launcher: ReadyLauncher, number: int, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of one job, composed before any job starts, so that its mistakes are reported first."""
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    return config
