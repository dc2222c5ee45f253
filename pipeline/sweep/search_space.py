"""Search space: converts Hydra's sweep overrides to Optuna's distributions, and proposed values to overrides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.config import ConfigError


@dataclass(frozen=True)
class Space:
    """Overrides of a search.

    Attributes:
        fixed: overrides that every job gets unchanged.
        distributions: distribution of the values of each swept key.
        points: values of each range of floats as Hydra computes them; Optuna's values differ in the last digit.
    """

    fixed: list[str]
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    points: dict[str, list[float]] = field(default_factory=dict)

    def build_overrides(self, params: dict[str, Any]) -> list[str]:
        """Return the overrides of one job."""
        return [*self.fixed, *(f"{key}={self._to_typed_value(key, value)}" for key, value in params.items())]

    def _to_typed_value(self, key: str, value: Any) -> Any:
        return min(self.points[key], key=lambda point: abs(point - value)) if key in self.points else value


def build_space(overrides: list[Override]) -> Space:
    """Split overrides into fixed and swept ones. The last override of a key counts.

    Raises:
        ConfigError: no override is swept, or one is a glob, an empty range, an interval from high to low or a
            logarithmic range from zero.
    """
    last = {override.get_key_element(): override for override in overrides}
    space = Space([str(override.input_line) for override in last.values() if not override.is_sweep_override()])
    for key, override in last.items():
        if override.is_sweep_override():
            try:
                _add_distribution(space, key, override.value())
            except ValueError as error:
                raise ConfigError(f"{override.input_line}: cannot be searched: {error}") from error
    if not space.distributions:
        raise ConfigError(
            "hydra/sweeper=optuna: no override is swept, so there is nothing to search. Add at least one, for "
            "example random_forest_pipeline.random_forest.max_depth=range(3,16)"
        )
    return space


def _add_distribution(space: Space, key: str, value: Any) -> None:
    if isinstance(value, RangeSweep):
        _add_range(space, key, value)
    elif isinstance(value, IntervalSweep):
        is_integer = isinstance(value.start, int) and isinstance(value.end, int)  # int(interval(...))
        kind: Any = IntDistribution if is_integer else FloatDistribution
        space.distributions[key] = kind(value.start, value.end, log="log" in value.tags)
    elif isinstance(value, ChoiceSweep):
        # Optuna gets the values as they are written on a command line, including quoted strings, lists and null.
        space.distributions[key] = CategoricalDistribution(list(dict.fromkeys(map(Transformer.str, value.list))))
    else:
        raise ValueError(f"name the choices: {key}=choice(a,b)")


def _add_range(space: Space, key: str, value: RangeSweep) -> None:
    """Add a range without its end, as in Hydra. A search ignores its order and thus shuffle(...)."""
    points = list(value.range())
    if not points:
        raise ValueError("the range is empty")
    low, step, log = min(points), abs(value.step), "log" in value.tags
    if all(isinstance(point, int) for point in points):
        space.distributions[key] = IntDistribution(int(low), int(max(points)), log=log, step=int(step))
        return
    # The points are sums, inexact in the last digit. Optuna requires that the end is exactly on a step.
    high = float(f"{low + step * (len(points) - 1):.12g}")
    space.distributions[key] = FloatDistribution(low, high, log=log, step=None if log else step)
    space.points[key] = points


def describe_distribution(distribution: BaseDistribution) -> str:
    """Return a short text about a distribution; different distributions have different texts."""
    if isinstance(distribution, CategoricalDistribution):
        return f"choice({','.join(map(str, distribution.choices))})"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
    step = f" by {distribution.step}" if distribution.step else ""
    return f"{kind} {distribution.low} to {distribution.high}{step}{' (log)' if distribution.log else ''}"
