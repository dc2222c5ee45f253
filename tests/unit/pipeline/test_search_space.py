"""Conversion of swept overrides to the distributions of Optuna."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.config import ConfigError
from pipeline.sweep.search_space import build_space


def convert(override: str) -> BaseDistribution:
    (converted,) = build_space(OverridesParser.create().parse_overrides([override])).distributions.values()
    return converted


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=range(3,16)", IntDistribution(3, 15)),
        ("a=range(4)", IntDistribution(0, 3)),
        ("a=range(3,16,5)", IntDistribution(3, 13, step=5)),
        ("a=range(10,1,-2)", IntDistribution(2, 10, step=2)),
        ("a=shuffle(range(1,4))", IntDistribution(1, 3)),
        ("a=tag(log,range(1,100))", IntDistribution(1, 99, log=True)),
        ("a=range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("a=float(range(1,4))", FloatDistribution(1.0, 3.0, step=1.0)),
        ("a=interval(0.01,0.1)", FloatDistribution(0.01, 0.1)),
        ("a=interval(1,5)", FloatDistribution(1.0, 5.0)),
        ("a=int(interval(1,5))", IntDistribution(1, 5)),
        ("a=tag(log,interval(0.001,1))", FloatDistribution(0.001, 1.0, log=True)),
        ("a=tag(log,int(interval(1,100)))", IntDistribution(1, 100, log=True)),
        ("a=choice(sqrt,log2)", CategoricalDistribution(["sqrt", "log2"])),
        ("a=choice(sqrt)", CategoricalDistribution(["sqrt"])),
        ("a=x,y,x", CategoricalDistribution(["x", "y"])),
        ("a=1,'1',null,true,[1,2],{b:1}", CategoricalDistribution(["1", "'1'", "null", "True", "[1,2]", "{b:1}"])),
        ("a=shuffle(3,1,2)", CategoricalDistribution(["3", "1", "2"])),
        ("a=sort(3,1,2)", CategoricalDistribution(["1", "2", "3"])),
        ("+a@b=c,d", CategoricalDistribution(["c", "d"])),
    ],
)
def test_each_form_of_hydras_grammar_is_a_distribution(override: str, expected: BaseDistribution) -> None:
    assert convert(override) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=glob(*)", r"a=glob\(\*\): cannot be searched: name the choices"),
        ("a=range(5,3)", "the range is empty"),
        ("a=interval(5,1)", r"a=interval\(5,1\): cannot be searched"),
        ("a=tag(log,interval(0,1))", "log"),
        ("a=5", "nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        convert(override)
    assert "\n" not in str(refused.value)


def test_fixed_overrides_go_to_every_job_as_typed_and_the_last_of_a_key_counts() -> None:
    parsed = OverridesParser.create().parse_overrides(["a=1", "b='x y'", "c=choice(p,q)", "~d", "a=2"])
    assert build_space(parsed).build_overrides({"c": "q"}) == ["a=2", "b='x y'", "~d", "c=q"]


def test_a_point_of_a_float_range_is_written_as_hydra_writes_it() -> None:
    override = OverridesParser.create().parse_override("a=range(0.1,0.5,0.1)")
    space = build_space([override])
    assert [space.build_overrides({"a": value}) for value in (0.1, 0.2, 0.3, 0.4)] == [
        [f"a={value}"] for value in override.sweep_string_iterator()
    ]
