"""The space of a search: what Hydra's grammar of sweeps means to Optuna, and a proposed value as an override again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.config import ConfigError


@dataclass(frozen=True)
class Swept:
    """One swept override.

    Attributes:
        distribution: where its values come from.
        points: the values of a range of floats as Hydra counts them; Optuna's differ in the last digit.
    """

    key: str
    distribution: BaseDistribution
    points: tuple[float, ...] = ()

    def override(self, value: Any) -> str:
        if self.points:
            value = min(self.points, key=lambda point: abs(point - value))
        return f"{self.key}={value}"


@dataclass(frozen=True)
class Space:
    """The overrides of a search: those that every job gets as they were typed, and those that are searched."""

    fixed: list[str]
    swept: dict[str, Swept]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {key: one.distribution for key, one in self.swept.items()}

    def job(self, params: dict[str, Any]) -> list[str]:
        """The overrides of one job."""
        return [*self.fixed, *(self.swept[key].override(value) for key, value in params.items())]


def space_of(overrides: list[Override]) -> Space:
    """Split overrides into fixed and swept ones; of several with the same key the last one counts.

    Raises:
        ConfigError: nothing is swept, or a sweep that cannot be searched.
    """
    last = {override.get_key_element(): override for override in overrides}
    fixed = [str(one.input_line) for one in last.values() if not one.is_sweep_override()]
    swept = {key: swept_of(key, one) for key, one in last.items() if one.is_sweep_override()}
    if not swept:
        raise ConfigError(
            "hydra/sweeper=optuna has nothing to search: no override is swept. Give one at least, "
            "for example random_forest_pipeline.random_forest.max_depth=range(3,16)"
        )
    return Space(fixed, swept)


def swept_of(key: str, override: Override) -> Swept:
    """Return where the values of a swept override come from.

    Raises:
        ConfigError: a glob, an empty range, an interval from high to low, a logarithm of zero.
    """
    value = override.value()
    try:
        if isinstance(value, ChoiceSweep):
            # as they are written on a command line: quoted strings, lists and null are values like others
            return Swept(key, CategoricalDistribution(list(dict.fromkeys(map(Transformer.str, value.list)))))
        if isinstance(value, RangeSweep):
            return _range(key, value)
        if isinstance(value, IntervalSweep):
            return Swept(key, _interval(value))
    except ValueError as error:
        raise ConfigError(f"{override.input_line} cannot be searched: {error}") from error
    raise ConfigError(f"{override.input_line} cannot be searched; name the choices: {key}=choice(a,b)")


def _range(key: str, value: RangeSweep) -> Swept:
    """A range without its end, as in Hydra and Python; its order, and so shuffle(...), means nothing to a search."""
    points = list(value.range())
    if not points:
        raise ValueError("the range is empty")
    low, step, log = min(points), abs(value.step), "log" in value.tags
    if all(isinstance(point, int) for point in points):
        return Swept(key, IntDistribution(int(low), int(max(points)), log=log, step=int(step)))
    # points are sums, inexact in the last digit; Optuna wants an end that lies on a step to the last digit
    high = float(f"{low + step * (len(points) - 1):.12g}")
    return Swept(key, FloatDistribution(low, high, log=log, step=None if log else step), tuple(points))


def _interval(value: IntervalSweep) -> BaseDistribution:
    assert value.start is not None
    assert value.end is not None
    log = "log" in value.tags
    if isinstance(value.start, int) and isinstance(value.end, int):  # int(interval(...))
        return IntDistribution(value.start, value.end, log=log)
    return FloatDistribution(value.start, value.end, log=log)


def shown(distribution: BaseDistribution | None) -> str:
    """Where values come from, in a few words; distributions that differ have words that differ."""
    if isinstance(distribution, CategoricalDistribution):
        return f"choice({','.join(map(str, distribution.choices))})"
    if isinstance(distribution, IntDistribution | FloatDistribution):
        kind = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
        step = f" by {distribution.step}" if distribution.step else ""
        return f"{kind} {distribution.low} to {distribution.high}{step}{' (log)' if distribution.log else ''}"
    return "not swept"
