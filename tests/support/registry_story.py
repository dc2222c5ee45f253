"""Train, evaluate and register several versions in this process, for tests that share them."""

from __future__ import annotations

import importlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from stepkit.step.artifacts import StepRun
from tests.conftest import Experiment, read_defaults

SPLIT = {"artifact_name": "preprocessed_data.csv", "input_artifact": "raw_data.csv"}


@dataclass
class Line:
    """Steps called one by one in their own experiment; each reads the current run of the previous step."""

    experiment: Experiment
    folder: Path

    def call(self, step: str, **flags: object) -> Run:
        """Call a step's real `main` in this process, without plots; return its run, whether it succeeded or failed.

        Plots would take half the time for a small table.
        """
        mlflow.set_experiment(self.experiment.name)
        parameters = {**read_defaults(step), **flags}
        words = [word for flag, value in parameters.items() for word in (f"--{flag}", str(value))]
        with pytest.MonkeyPatch.context() as patch, suppress(SystemExit):
            patch.setattr(StepRun, "publish_figure", lambda *_: None)
            importlib.import_module(f"{step}.run").main(words)
        return self.experiment.runs(str(flags.get("step", step)))[0]

    def split(self, table: Path, dataset: str = "uci", **flags: object) -> Run:
        """Download, preprocess and split a table; return the run that published the splits."""
        self.call("download", file_url=table, dataset=dataset)
        self.call("preprocess")
        return self.call("segregate", **flags)

    def train(self, **forest: object) -> Run:
        config = self.folder / "forest.yaml"
        config.write_text(yaml.safe_dump({"random_forest": {"n_jobs": 1, **forest}}))
        return self.call("random_forest", model_config=config)

    def evaluate(self, **flags: object) -> Run:
        """Judge the current model without the rules about baselines, which a deliberately weak model would fail."""
        settings = self.folder / "evaluate.yaml"
        settings.write_text(yaml.safe_dump({"gate": {"baselines": None}}))
        return self.call("evaluate", model_name=self.name, **{"evaluate_config": settings, **flags})

    def register(self) -> Run:
        return self.call("register", model_name=self.name)

    def version(self, **forest: object) -> Run:
        """Train a forest, judge it, register it; return the run of evaluate."""
        self.train(**forest)
        judged = self.evaluate()
        self.register()
        return judged

    @property
    def name(self) -> str:
        return self.experiment.id_name

    @property
    def aliases(self) -> dict[str, int]:
        aliases = self.experiment.client.get_registered_model(self.name).aliases
        return {alias: int(version) for alias, version in aliases.items()}

    def tags(self, version: int) -> dict[str, str]:
        return dict(self.experiment.client.get_model_version(self.name, str(version)).tags)

    def table(self, run: Run, name: str) -> pd.DataFrame:
        return pd.read_csv(self.experiment.client.download_artifacts(run.info.run_id, name))

    def json(self, run: Run, name: str) -> dict[str, Any]:
        path = self.experiment.client.download_artifacts(run.info.run_id, name)
        content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return content


def select_failed_rules(verdict: dict[str, Any]) -> dict[str, str]:
    return {rule["name"]: rule["reason"] for rule in verdict["rules"] if not rule["passed"]}
