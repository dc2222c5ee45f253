"""Overrides that do not matter to a job, because they set a kind of model that the job does not train."""

from __future__ import annotations

from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from pipeline.config import MODEL_STEPS, SETTINGS_SUFFIX

_MISSING = object()


def drop_unused(config: DictConfig, jobs: list[list[str]]) -> list[list[str]]:
    """Return the overrides of each job without those that only set another kind of model than the job trains.

    Overrides of a kind stay if other settings refer to it (`${random_forest_pipeline.threshold}`), and overrides of an
    unknown key stay, so that they are reported.

    Args:
        config: configuration of the sweep, before the overrides of its jobs.
        jobs: overrides of each job.
    """
    kinds = {_find_kind(override) for job in jobs for override in job} - {""}
    unreferenced = {kind for kind in kinds if not _is_referenced(kind, config, jobs)}
    return [_drop_from_job(config, job, unreferenced) for job in jobs] if unreferenced else jobs


def _drop_from_job(config: DictConfig, job: list[str], unreferenced: set[str]) -> list[str]:
    models = [value for key, value in map(_split, job) if key == "model"]
    model = models[-1] if models else str(config.model)
    return [
        override for override in job if _find_kind(override) not in unreferenced - {model} or _is_new(config, override)
    ]


def _split(override: str) -> tuple[str, str]:
    """Return the key and the value; of a group (rf_config@random_forest_pipeline=x) the key that it sets."""
    key, _, value = override.lstrip("+~").partition("=")
    return key.rpartition("@")[2], value


def _find_kind(override: str) -> str:
    """Return the kind of model that an override sets, or ""."""
    first_part = _split(override)[0].partition(".")[0]
    return next((model for model in MODEL_STEPS if first_part == model + SETTINGS_SUFFIX), "")


def _is_referenced(kind: str, config: DictConfig, jobs: list[list[str]]) -> bool:
    """Return whether the name of a kind's settings occurs in a value outside of these settings."""
    settings = kind + SETTINGS_SUFFIX
    others = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", settings)])
    texts = {_split(override)[1] for job in jobs for override in job if _find_kind(override) != kind}
    return any(settings in text for text in (OmegaConf.to_yaml(others), *texts))


def _is_new(config: DictConfig, override: str) -> bool:
    key, _ = _split(override)
    return not override.startswith(("+", "~")) and OmegaConf.select(config, key, default=_MISSING) is _MISSING


def list_distinct(jobs: Iterable[list[str]]) -> list[list[str]]:
    """Return the overrides of each job once, in the order of their first occurrence."""
    return [list(job) for job in dict.fromkeys(map(tuple, jobs))]
