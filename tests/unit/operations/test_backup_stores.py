"""Where backup looks: the keys of config.yaml as PyYAML reads them, with Python alone; then the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from backup.errors import SourceUnreadable
from backup.stores import CONFIG, read_config_value, read_databases
from stepkit.paths import ROOT

KEYS = [("serve", "log_url"), ("main", "mlflow_tracking_url")]


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREDICTION_LOG_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def root_with(tmp_path: Path, text: str) -> Path:
    (tmp_path / CONFIG).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_keys_stand_in_the_configuration_and_are_read_as_they_stand(section: str, key: str) -> None:
    assert read_config_value(section, key) == (yaml.safe_load((ROOT / CONFIG).read_text())[section][key] or "")


@pytest.mark.parametrize("comment", ["", "   # the log, e.g. ${this}: or 'that'"])
@pytest.mark.parametrize(
    "written",
    [
        *("", "null", "~", "sqlite:///a.db", "sqlite:///a#b.db?timeout=20", "sqlite:////srv/a b.db"),
        *("'sqlite:///a # b.db'", '"sqlite:///a.db"', "postgresql://me@host:5432/log?connect_timeout=3"),
    ],
)
def test_a_value_is_read_as_pyyaml_reads_it(tmp_path: Path, written: str, comment: str) -> None:
    above = "drift:\n  log_url: other\nserve:   # the scorer\n\n# a remark\n  port: 1\n"
    text = f"{above}  log_url: {written}{comment}\nz: 1\n"
    assert read_config_value("serve", "log_url", root_with(tmp_path, text)) == (
        yaml.safe_load(text)["serve"]["log_url"] or ""
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("drift:\n  log_url: x\n", ""),
        ("serve:\n  deep:\n    log_url: x\n  port: 1\n", ""),
        ("serve: {log_url: x}\n", "x"),
        ("serve:\n  log_url: >-\n    x\n", "x"),
        ("serve:\n  log_url:\n    x\n", "x"),
    ],
)
def test_the_key_is_read_in_every_spelling_of_yaml_and_from_nowhere_else(tmp_path: Path, text: str, value: str) -> None:
    assert read_config_value("serve", "log_url", root_with(tmp_path, text)) == value


@pytest.mark.parametrize("value", ["log_url: ${oc.env:LOG}", "log_url: *other", "log_url: [1]", "log_url"])
def test_a_value_that_is_not_one_address_is_rejected_and_not_guessed(tmp_path: Path, value: str) -> None:
    with pytest.raises(SourceUnreadable, match="BACKUP_DATABASES"):
        read_config_value("serve", "log_url", root_with(tmp_path, f"serve:\n  {value}\n"))


def test_the_configuration_wins_over_the_environment_and_that_over_the_files_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_with(tmp_path, "main:\n  mlflow_tracking_url: null\nserve:\n  log_url: null\n")
    here = {"predictions": ("sqlite", f"{root}/predictions.db"), "mlflow": ("sqlite", f"{root}/mlflow.db")}
    assert read_databases(None, root) == here
    monkeypatch.setenv("PREDICTION_LOG_URL", "postgresql+psycopg://me@host/log")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////srv/env.db")
    assert read_databases(None, root) == {
        "predictions": ("postgresql", "postgresql://me@host/log"),
        "mlflow": ("sqlite", "/srv/env.db"),
    }
    root_with(tmp_path, "main:\n  mlflow_tracking_url: sqlite:///b.db\nserve:\n  log_url: sqlite:///a.db\n")
    assert read_databases(None, root) == {
        "predictions": ("sqlite", f"{root}/a.db"),
        "mlflow": ("sqlite", f"{root}/b.db"),
    }


def test_options_behind_an_sqlite_file_are_no_part_of_its_name(tmp_path: Path) -> None:
    found = read_databases("predictions=sqlite:///predictions.db?timeout=20", tmp_path)
    assert found == {"predictions": ("sqlite", f"{tmp_path}/predictions.db")}
