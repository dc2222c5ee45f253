"""stepkit.store.reference: what is an address of a file, and what is the name of an artifact behind the champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepkit.store.reference import reference_address
from tests.conftest import Experiment

pytestmark = pytest.mark.slow

NO_CHAMPION = ("", "no reference: there is no champion yet")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the repository's root, with two tables in it."""
    monkeypatch.setattr("stepkit.paths.ROOT", tmp_path)
    for name in ("preprocessed_data.csv", "pinned.csv"):
        (tmp_path / name).write_text("AGE\n24\n")
    return tmp_path


def test_a_file_that_is_called_like_the_sample_does_not_replace_the_champions_data(
    root: Path, experiment: Experiment
) -> None:
    run = experiment.client.create_run(experiment.id).info.run_id

    def found(reference: str, sample: str = "preprocessed_data.csv") -> tuple[str, str]:
        return reference_address(experiment.client, f"runs:/{run}/{sample}", reference, experiment.id_name)

    assert found("preprocessed_data.csv") == NO_CHAMPION
    assert found("pinned.csv") == (str(root / "pinned.csv"), "")
    assert found("./preprocessed_data.csv") == (str(root / "preprocessed_data.csv"), ""), "a path is a path"
