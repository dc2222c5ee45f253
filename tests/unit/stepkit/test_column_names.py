"""A column may have any name: no training step takes it for a keyword, a pattern or an attribute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from check_data.checks import DataChecks, run_checks
from preprocess.run import clean_table, verify_columns
from random_forest.run import KIND
from stepkit.settings.model import Forest, RandomForestSettings
from stepkit.table.columns import Column, Columns, read_columns
from stepkit.table.labels import get_labels, verify_labels
from stepkit.table.split import split_table
from stepkit.table.tables import read_table, to_model_input, write_table
from training.export import compute_largest_difference
from training.onnx_graph import to_graph
from training.pipeline import compute_importances, select_features

SETTINGS = RandomForestSettings(calibration="none", random_forest=Forest(n_estimators=3, max_depth=3, n_jobs=1))
GROUPS = {
    "words of Python and pandas": ["self", "index", "columns", "values", "name", "target", "class", "None", "lambda"],
    "words of the steps": ["label", "probability", "row", "rule", "column", "checked", "default", "rows", "numeric"],
    "words of YAML": ["yes", "no", "null", "~", "1", "1.0", "2019-01-01", "1e5", "true", "-"],
    "signs": ["a b", "[x]", "{x}", "a<b", "a>b", "#", "a: b", "%s", "{}", "\\", "/", "a//b", "?", "*", "&a", "!b", "|"],
    "quotes": ["it's", 'say "hi"', "`x`", "'", '"'],
    "other alphabets": ["Größe", "日本", "🙂", "naïve", "e\u0301", "é"],
    "alike": ["x", "X", "x.1", "x_1", "x 1", "x1.0", "__x", "x__y", "x_1.0", " x", "x ", "x\n", "long" * 200],
    "like codes of others": ["c", "c_1.0", "codes__c", "c_1", "d", "d_a", "text__d"],
}
ROWS = 60


def make_columns(names: list[str], target: str) -> Columns:
    kinds = [
        Column(type="float", max_missing=1.0),
        Column(role="categorical", values=[1, 2]),
        Column(type="text", role="categorical", values=["a", "b"]),
    ]
    described = {name: kinds[place % 3] for place, name in enumerate(names)}
    return Columns(source_target=target, target=target, columns=described)


def make_raw_table(columns: Columns) -> pd.DataFrame:
    random = np.random.default_rng(1)
    kinds = {
        "float": random.normal(size=ROWS),
        "integer": random.integers(1, 3, ROWS),
        "text": random.choice(np.array(["a", "b"], dtype=object), ROWS),
    }
    inputs = {name: random.permutation(kinds[column.type]) for name, column in columns.columns.items()}
    return pd.DataFrame({**inputs, columns.source_target: np.arange(ROWS) % 2})


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("target", ["late", "self", "a b", "[y]"])
def test_a_table_with_such_names_is_prepared_checked_split_fitted_and_exported(
    tmp_path: Path, group: str, target: str
) -> None:
    columns = make_columns([name for name in GROUPS[group] if name != target], target)
    (tmp_path / "columns.yaml").write_text(columns.to_yaml(), encoding="utf-8")
    assert read_columns(tmp_path / "columns.yaml") == columns
    write_table(make_raw_table(columns), tmp_path / "raw.csv")
    table = read_table(tmp_path / "raw.csv", text=columns.text)
    verify_columns(table, columns, "raw.csv")
    clean = clean_table(table, columns)
    assert list(clean) == [*columns.names, target]
    if target == "late":  # The checks take half a second.
        assert run_checks(DataChecks(clean, columns, clean, "", 0.05)).failures == []
    verify_labels(clean, target)
    train, test = split_table(clean, 0.3, target, 42)
    model = KIND.fit(SETTINGS, columns, to_model_input(train, columns), get_labels(train, target), random_seed=42)
    assert len(compute_importances(model)) >= len(columns.names)
    inputs = select_features(SETTINGS.features, columns)
    graph = tmp_path / "model.onnx"
    graph.write_bytes(to_graph(model, inputs, columns.text).SerializeToString())
    assert compute_largest_difference(model, graph, to_model_input(test, columns), inputs, columns.text) < 1e-6
