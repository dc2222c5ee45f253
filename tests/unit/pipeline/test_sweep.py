"""pipeline.sweep: names, choices, tables and the plot of the jobs of a sweep."""

from __future__ import annotations

import io
import math
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path as MatplotlibPath
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag
from omegaconf import OmegaConf
from rich.console import Console, Group

from pipeline.config import Config, ConfigError, parse_config
from pipeline.config import Sweep as Settings
from pipeline.sweep.job import read_objective, select_job_steps, shorten_override
from pipeline.sweep.plot import plot_sweep
from pipeline.sweep.plugin_settings import RaySettings
from pipeline.sweep.ray_connection import build_runtime_env
from pipeline.sweep.results import build_sweep_table, build_table, find_swept_keys, publish_results, to_markdown
from pipeline.sweep.sweep import Sweep, announce_sweep, drop_lost_tries, find_best, verify_not_swept
from pipeline.tags import BEST_JOB
from tests.conftest import Experiment
from tests.support.small_data import compose_config

SETTINGS = Settings(metric="val_roc_auc", direction="maximize", test="best")
FOREST = "random_forest_pipeline.random_forest"


def make_job(number: int, overrides: str, status: str = "FINISHED", **metrics: float) -> Run:
    info = RunInfo(f"run{number}", "0", "me", status, 0, 1000, "active")
    tags = [RunTag("job", str(number)), RunTag("overrides", overrides)]
    return Run(info, RunData([Metric(name, value, 0, 0) for name, value in metrics.items()], [], tags))


def render(table: Group) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(table)
    return output.getvalue()


def make_config(*overrides: str) -> Config:
    return parse_config(compose_config(*overrides))


JOBS = [
    make_job(0, f"{FOREST}.max_depth=5\n{FOREST}.n_estimators=10", val_roc_auc=0.70, val_log_loss=0.6, seconds=2.0),
    make_job(1, f"{FOREST}.max_depth=7\n{FOREST}.n_estimators=10", val_roc_auc=0.75, val_log_loss=0.5, seconds=3.0),
    make_job(2, f"{FOREST}.max_depth=9\n{FOREST}.n_estimators=10", "FAILED", seconds=1.0),
    make_job(3, f"{FOREST}.max_depth=11\n{FOREST}.n_estimators=10", val_roc_auc=0.75, val_log_loss=0.4, seconds=3.0),
]


@pytest.mark.parametrize(
    ("jobs", "metric", "direction", "best"),
    [
        (JOBS, "val_roc_auc", "maximize", "1"),  # the first of two equal jobs
        (JOBS, "val_log_loss", "minimize", "3"),
        ([*JOBS, make_job(9, "", "FAILED", val_roc_auc=0.99)], "val_roc_auc", "maximize", "1"),
    ],
)
def test_the_best_job_is_the_first_finished_one_with_the_best_metric(
    jobs: list[Run], metric: Any, direction: Any, best: str
) -> None:
    best_run = find_best(jobs, Settings(metric=metric, direction=direction, test="best"))
    assert best_run
    assert best_run.data.tags["job"] == best
    assert find_best([JOBS[2]], SETTINGS) is None


def test_only_what_differs_was_swept() -> None:
    assert find_swept_keys(JOBS) == [f"{FOREST}.max_depth"]
    assert find_swept_keys(JOBS[:1]) == [f"{FOREST}.max_depth", f"{FOREST}.n_estimators"]


def test_the_table_has_a_row_per_job_with_its_own_values() -> None:
    table = build_table(JOBS, SETTINGS)
    assert list(table["job"]) == [0, 1, 2, 3]
    assert list(table[f"{FOREST}.max_depth"]) == ["5", "7", "9", "11"]
    assert pd.isna(table["val_roc_auc"]).tolist() == [False, False, True, False]
    assert list(table["status"]) == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]


def test_the_table_can_be_pasted_into_a_page() -> None:
    lines = to_markdown(pd.DataFrame({"job": [1], "max_depth": ["7"], "val_roc_auc": [0.75]})).splitlines()
    assert lines == ["| job | max_depth | val_roc_auc |", "| --- | --- | --- |", "| 1 | 7 | 0.7500 |"]


@pytest.mark.parametrize(
    ("override", "shown"),
    [(f"{FOREST}.max_depth=7", "max_depth=7"), ("data=uci", "data=uci"), ("+data.sha256=x", "sha256=x")],
)
def test_an_override_is_shown_by_the_end_of_its_key(override: str, shown: str) -> None:
    assert shorten_override(override) == shown


def test_jobs_leave_the_test_split_to_the_best_one() -> None:
    assert select_job_steps(make_config())[-1] == "random_forest"
    assert select_job_steps(make_config("sweep.test=all"))[-2:] == ["evaluate", "register"]
    assert select_job_steps(make_config("main.execute_steps=[evaluate]")) == ["evaluate"]


def test_an_unknown_metric_is_told_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^sweep\.metric: metric 'val_rocauc' was not logged\. Logged metrics: val_log_loss, val_roc_auc",
    ):
        read_objective(JOBS[0], "val_rocauc", trains=True)
    assert math.isnan(read_objective(JOBS[2], "val_roc_auc", trains=False))


@pytest.mark.parametrize("override", ["main.experiment_name=a,b", "sweep.metric=val_f1,val_recall"])
def test_what_all_jobs_have_in_common_cannot_be_swept(override: str) -> None:
    with pytest.raises(ConfigError, match="cannot be swept"):
        verify_not_swept(["data.val_size=0.2,0.3", override])
    verify_not_swept(["main.experiment_name=a", "data.val_size=0.2,0.3"])


def test_a_swept_address_with_a_secret_is_rejected_before_the_sweep_has_a_run() -> None:
    with pytest.raises(ConfigError, match=r"^data\.file_url: holds a password") as ended:
        verify_not_swept(["data.file_url='http://svc:SEC/RET@127.0.0.1:9/a.csv',data/sample.csv.gz"])
    assert "RET" not in str(ended.value)


def test_a_job_that_a_cluster_began_again_counts_once() -> None:
    again = make_job(2, "", val_roc_auc=0.7)
    assert drop_lost_tries([*JOBS[:3], again]) == [*JOBS[:2], again]
    assert drop_lost_tries(JOBS) == JOBS


def test_one_setting_is_drawn_as_points_and_several_as_lines() -> None:
    settings = pd.DataFrame({"max_depth": ["5", "7", "9"], "max_features": ["sqrt", "log2", "sqrt"]})
    metric = pd.Series([0.70, 0.75, 0.72], name="val_roc_auc")
    (axes,) = plot_sweep(settings[["max_depth"]], metric).axes
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [5, 7, 9]
    assert axes.lines[0].get_linestyle() == "None"
    (axes,) = plot_sweep(settings, metric).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["max_depth", "max_features", "val_roc_auc"]
    heights = np.asarray(axes.lines[1].get_ydata(), dtype=float)
    assert heights[~np.isnan(heights)].tolist() == pytest.approx([0.5, 0.0, 0.0, 1.0])


def test_no_label_of_the_plot_overlaps_a_line_or_another_label() -> None:
    settings = pd.DataFrame({"max_depth": ["3", "5", "6", "7"], "path": ["a" * 40, "/b/c", "0.123456789", "[1,2]"]})
    figure = plot_sweep(settings, pd.Series([0.700, 0.701, 0.702, 0.75], name="validation ROC AUC"))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    lines = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
    segments = [MatplotlibPath(ends) for line in lines for ends in pairwise(line) if not np.isnan(ends).any()]
    assert len(segments) == 8
    assert len(boxes) > 6
    assert not any(box.overlaps(other) for box, other in combinations(boxes, 2))
    assert not any(segment.intersects_bbox(box, filled=False) for box in boxes for segment in segments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("jobs", "best", "logged"),
    [
        (JOBS, JOBS[1], ["sweep.csv", "sweep.png"]),
        ([make_job(0, "data.val_size=0.2", val_roc_auc=0.7)] * 2, JOBS[0], ["sweep.csv"]),
        ([JOBS[2]], None, ["sweep.csv"]),
        ([make_job(number, f"data.test_size=0.{number}") for number in (1, 2)], None, ["sweep.csv"]),
    ],
    ids=["a best one", "nothing that differs", "all failed", "no model"],
)
def test_the_end_of_a_sweep_names_what_lies_with_its_run_and_nothing_else(
    jobs: list[Run], best: Run | None, logged: list[str], experiment: Experiment
) -> None:
    run_id = experiment.client.create_run(experiment.id).info.run_id
    names = publish_results(experiment.client, run_id, SETTINGS, jobs, best)
    assert names == logged == [artifact.path for artifact in experiment.client.list_artifacts(run_id)]
    text = render(build_sweep_table("sweep", SETTINGS, jobs, best, "sqlite:///x.db", "", names, ["study s: 1 of 2"]))
    assert [name for name in ("study s: 1 of 2", "sweep.csv", "sweep.png") if name in text] == [
        "study s: 1 of 2",
        *logged,
    ]
    tags = experiment.client.get_run(run_id).data.tags
    assert tags.get(BEST_JOB) == (best.info.run_id if best else None)
    assert "| job | " in tags["mlflow.note.content"]


def test_the_end_of_a_sweep_names_the_data_set_and_why_the_best_job_is_not_champion() -> None:
    tags = {
        "verdict": "rejected",
        "verdict_reasons": "the champion [version 1] is of another data set",
        "data_set": "a",
    }
    best = make_job(1, f"{FOREST}.max_depth=7", val_roc_auc=0.75)
    judged = Run(best.info, RunData([], [], [RunTag(*tag) for tag in {**best.data.tags, **tags}.items()]))
    lines = render(build_sweep_table("sweep", SETTINGS, [judged], judged, "sqlite:///x.db", "", [], [])).splitlines()
    assert ["data", "set", "a"] in [line.split() for line in lines]
    assert "best job    rejected: the champion [version 1] is of another data set" in [line.rstrip() for line in lines]


@pytest.mark.parametrize(("uri", "count"), [("http://me:XqSECRETqX@127.0.0.1:9", 0), ("http://127.0.0.1:9", 1)])
def test_the_jobs_are_told_of_the_tracking_server_unless_its_address_holds_a_password(uri: str, count: int) -> None:
    """Hydra writes its overrides to a file."""
    config = OmegaConf.create({"hydra": {"overrides": {"hydra": []}}})
    announce_sweep(Sweep(SETTINGS, uri, "1f", "2e", 0.0), config)
    overrides = list(config.hydra.overrides.hydra)
    assert sum(uri in override for override in overrides) == count
    assert len(overrides) == 2 + count


def test_ray_is_not_handed_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:XqSECRETqX@127.0.0.1:9")
    with pytest.raises(ConfigError, match="on each node") as caught:
        build_runtime_env(RaySettings(), "ray://127.0.0.1:1")
    assert "SECRET" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert (
        build_runtime_env(RaySettings(), "ray://127.0.0.1:1")["env_vars"]["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    )


@pytest.mark.parametrize("value", ["[x]", "[/b]", "[bold red]y", "[link=http://x]"])
def test_a_swept_value_is_text_and_not_markup(value: str) -> None:
    jobs = [
        make_job(number, f"main.because.reason={text}", val_roc_auc=0.7) for number, text in enumerate([value, "z"])
    ]
    text = render(build_sweep_table(f"sweep {value}", SETTINGS, jobs, None, value, f"at {value}", [], []))
    assert text.count(value) == 4
