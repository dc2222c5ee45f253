"""The first version and a better one become champion, an equal or worse one does not; users may overrule the gate."""

from __future__ import annotations

import json
import string
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.store.artifact.utils.models import get_model_name_and_version

from register import champion_alias
from register.champion_alias import CLAIM, Move, move_champion
from register.models import main as models
from register.promote import main as promote
from register.rollback import main as rollback
from stepkit.errors import ChampionMoved
from stepkit.processes import make_process_tags
from stepkit.step.flags import parse_model_name
from tests.conftest import create_experiment, run_command
from tests.support.pipelines import write_small_table
from tests.support.registry_story import Line, select_failed_rules

ROWS = 5000
STUMP = {"n_estimators": 1, "max_depth": 2}
FOREST = {"n_estimators": 40, "max_depth": 8}

Story = dict[str, tuple[Run, dict[str, int]]]
"""The run that judged each version, and the aliases after it was registered."""


@pytest.fixture(scope="module")
def line(store: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Split table, before any training."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp("registry")
    line = Line(create_experiment("registry", folder), folder)
    line.split(write_small_table(folder, rows=ROWS))
    return line


@pytest.fixture(scope="module")
def story(line: Line) -> Story:
    """Five versions, one after the other."""
    story: Story = {}
    for name, forest in (("first", STUMP), ("equal", STUMP), ("better", FOREST), ("worse", STUMP)):
        judged = line.version(**forest)
        story[name] = (judged, line.aliases)
    shuffled = pd.read_csv(write_small_table(line.folder, rows=ROWS))
    target = "default payment next month"
    shuffled[target] = np.random.default_rng(1).permutation(shuffled[target])
    shuffled.to_csv(line.folder / "shuffled.csv", index=False)
    honest = line.experiment.current("segregate")[0].info.run_id
    line.split(line.folder / "shuffled.csv")
    line.train(**FOREST)
    judged = line.evaluate(input_data_run_id=honest)
    line.register()
    return {**story, "shuffled": (judged, line.aliases)}


@pytest.mark.parametrize(
    ("name", "verdict", "aliases"),
    [
        ("first", "passed", {"challenger": 1, "champion": 1}),
        ("equal", "as_good", {"challenger": 2, "champion": 1}),
        ("better", "passed", {"challenger": 3, "champion": 3, "previous": 1}),
        ("worse", "rejected", {"challenger": 4, "champion": 3, "previous": 1}),
        ("shuffled", "rejected", {"challenger": 5, "champion": 3, "previous": 1}),
    ],
)
def test_the_champion_moves_to_a_better_model_only(
    story: Story, name: str, verdict: str, aliases: dict[str, int]
) -> None:
    judged, after = story[name]
    assert (judged.data.tags["verdict"], after) == (verdict, aliases)


def test_a_model_trained_on_shuffled_labels_breaks_the_floor_too(line: Line, story: Story) -> None:
    verdict = line.json(story["shuffled"][0], "verdict.json")
    assert {"roc_auc", "not_worse_than_champion"} <= set(select_failed_rules(verdict))


def test_an_equal_model_differs_by_nothing_and_is_not_called_better(line: Line, story: Story) -> None:
    evaluation = line.json(story["equal"][0], "evaluation.json")
    assert evaluation["difference"]["roc_auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert evaluation["calibration_bins"] == "equal_mass"
    assert (evaluation["champion"]["rows_excluded"], evaluation["champion"]["rows_compared"]) == (0, evaluation["rows"])
    assert list(select_failed_rules(line.json(story["equal"][0], "verdict.json"))) == ["better_than_champion"]


def test_a_version_says_why_it_is_not_champion(line: Line, story: Story) -> None:
    assert "worse by more than" in line.tags(4)["gate.not_worse_than_champion"]
    assert "gate.better_than_champion" in line.tags(2)
    assert "worse by more than" in str(line.experiment.client.get_model_version(line.name, "4").description)


def test_people_overrule_the_gate_and_leave_who_when_and_why(
    line: Line, story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(["--model_name", line.name, "--version", "2", "--reason", "it's simpler"])
    assert line.aliases == {"challenger": 5, "champion": 2, "previous": 3}
    assert "overruled gate rule: ROC AUC" in capsys.readouterr().out, "the rules that it failed are shown"
    assert "it's simpler" in line.tags(2)["champion_history"]
    assert "UTC: champion instead of version 3, by " in line.tags(2)["champion_history"]
    assert "replaced by version 2, by " in line.tags(3)["withdrawn"]

    rollback(["--model_name", line.name, "--reason", "was better"])
    assert line.aliases == {"challenger": 5, "champion": 3, "previous": 2}
    assert "withdrawn" not in line.tags(3)

    capsys.readouterr()
    models(["--model_name", line.name])
    shown = capsys.readouterr().out
    words = ("champion", "data set", "uci", "previous", "challenger", "as good", "rejected", "was better")
    assert [word for word in words if word not in shown] == []


def move(line: Line, version: str, by_hand: bool = False) -> str:
    """Promote a version; return the number of the previous champion."""
    before = str(line.aliases["champion"])
    move_champion(line.experiment.client, line.name, version, before, Move("a person", "for this test", by_hand))
    assert line.aliases["champion"] == int(version)
    return before


def list_claims(line: Line) -> list[str]:
    return [tag for tag in line.experiment.client.get_registered_model(line.name).tags if tag.startswith(CLAIM)]


def test_a_pipeline_does_not_undo_what_a_person_took_back(line: Line, story: Story) -> None:
    """The model of version 3 again, with the verdict that promoted it over version 1."""
    client, name = line.experiment.client, line.name
    better = client.get_model_version(name, "3")
    verdict = next(
        run
        for run in line.experiment.runs("evaluate")
        if run.data.tags["input.model_export"].startswith(f"runs:/{better.run_id}/")
    )
    before = move(line, "1", by_hand=True)
    names = {"input_model_run_id": better.run_id, "input_verdict_run_id": verdict.info.run_id, "model_name": name}
    summary = line.call("register", **names).data.tags["summary"]
    assert line.aliases["champion"] == 1
    assert "not champion: the same model was withdrawn by hand as version 3" in summary
    assert move(line, before, by_hand=True) == "1"


def test_a_model_that_was_judged_before_another_became_champion_stays_challenger(line: Line, story: Story) -> None:
    champion = line.aliases["champion"]
    line.experiment.client.delete_model_version_tag(line.name, "1", "withdrawn")
    stale = next(
        run
        for run in line.experiment.runs("evaluate")
        if run.data.tags["verdict"] == "passed" and line.json(run, "verdict.json")["champion_version"] is None
    )
    model = stale.data.tags["input.model_export"].removeprefix("runs:/").split("/")[0]
    names = {"input_model_run_id": model, "input_verdict_run_id": stale.info.run_id, "model_name": line.name}
    summary = line.call("register", **names).data.tags["summary"]
    assert f"version {champion} became champion in the meantime. Run evaluate again" in summary
    assert line.aliases["champion"] == champion


def test_of_many_who_move_the_champion_at_once_one_does_and_the_others_are_told(line: Line, story: Story) -> None:
    before = str(line.aliases["champion"])
    ready = threading.Barrier(4)

    def move_to(version: str) -> str:
        ready.wait()
        try:
            move_champion(MlflowClient(), line.name, version, before, Move("a thread", "first come"))
        except ChampionMoved:
            return ""
        return version

    with ThreadPoolExecutor(4) as threads:
        moved = [*filter(None, threads.map(move_to, {"1", "2", "3", "4", "5"} - {before}))]
    assert len(moved) == 1
    assert {"champion": int(moved[0]), "previous": int(before)}.items() <= line.aliases.items()
    assert list_claims(line) == []
    move(line, before)


def test_the_claim_of_a_process_that_died_stops_nobody_for_ever(line: Line, story: Story) -> None:
    line.experiment.client.set_registered_model_tag(line.name, f"{CLAIM}dead", "1000.0")  # as an earlier release did
    before = move(line, "2")
    assert line.aliases["previous"] == int(before)
    move(line, before)
    assert list_claims(line) == []


def test_the_claim_of_a_living_process_holds_however_old_it_is(
    line: Line, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, before = line.experiment.client, line.aliases
    monkeypatch.setattr(champion_alias, "TRIES", 1)
    client.set_registered_model_tag(line.name, f"{CLAIM}slow", json.dumps({"since": "1000.0", **make_process_tags()}))
    with pytest.raises(ChampionMoved):
        move(line, "2")
    assert line.aliases == before
    client.delete_registered_model_tag(line.name, f"{CLAIM}slow")


KILLED_HALFWAY = """
import os, sys
from mlflow import MlflowClient
set_alias = MlflowClient.set_registered_model_alias
def set_and_die(*words):
    set_alias(*words)
    os._exit(137)
MlflowClient.set_registered_model_alias = set_and_die
from register.promote import main
main(sys.argv[1:])
"""


def test_a_move_that_was_killed_halfway_leaves_a_way_back_at_once(line: Line, story: Story) -> None:
    client, name, before = line.experiment.client, line.name, line.aliases
    version = next(number for number in (1, 2, 4) if number not in before.values())
    words = ["--model_name", name, "--version", str(version), "--reason", "x"]
    assert run_command(sys.executable, "-c", KILLED_HALFWAY, *words).returncode == 137
    assert line.aliases == {**before, "champion": version}, "the move was killed between its two aliases"
    rollback(["--model_name", name, "--reason", "back"])
    assert line.aliases == {**before, "previous": version}
    assert list_claims(line) == []
    client.set_registered_model_alias(name, "previous", str(before["previous"]))


@pytest.mark.parametrize("fails_at", ["champion", "previous"])
def test_a_move_that_fails_halfway_is_done_whole_or_not_at_all(
    fails_at: str, line: Line, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name, before = line.experiment.client, line.name, line.aliases
    set_alias, interrupts = MlflowClient.set_registered_model_alias, iter([KeyboardInterrupt])

    def interrupted(self: MlflowClient, name: str, alias: str, version: str) -> None:
        if alias == fails_at:
            for interrupt in interrupts:
                raise interrupt
        set_alias(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", interrupted)
    with pytest.raises(KeyboardInterrupt):
        move_champion(client, name, "4", str(before["champion"]), Move("a person", "x", by_hand=True))
    done = {**before, "champion": 4, "previous": before["champion"]}
    assert line.aliases == (before if fails_at == "champion" else done)
    assert list_claims(line) == []
    monkeypatch.undo()
    for alias in ("champion", "previous"):
        client.set_registered_model_alias(name, alias, str(before[alias]))


def test_every_name_that_is_accepted_works_in_the_registry(store: str) -> None:
    client, names = MlflowClient(), []
    for sign in string.punctuation + " \t\n\0":
        for name in (f"{sign}a", f"a{sign}", f"a{sign}b"):
            with suppress(ValueError):
                names.append(parse_model_name(name))
    assert {"a b", "a-b", "a_b", "a+b", "a@b", "a.b"} < {*names}
    for name in names:
        client.create_registered_model(name)
        version = client.create_model_version(name, "file:///nowhere", "1f").version
        client.set_registered_model_alias(name, "champion", version)
        assert len(client.search_model_versions(f"name='{name}' and run_id='1f'")) == 1
        assert get_model_name_and_version(client, f"models:/{name}@champion") == (name, version)


Command = Callable[[list[str]], None]
Ended = Callable[..., str]


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Ended:
    """Return a function that calls a command, verifies exit status 1 and returns its message."""

    def call(command: Command, *words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            command([*words])
        assert stopped.value.code == 1
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (promote, ["--version", "99", "--reason", "x"], "BadParameter: {name} has no version 99"),
        (promote, ["--version", "two", "--reason", "x"], "BadParameter: --version: 'two' is not a version"),
        (promote, ["--version", "1", "--reason", " "], "BadParameter: --reason: empty"),
        (promote, ["--version", "{champion}", "--reason", "x"], "version {champion}: already champion"),
        (rollback, ["--reason", ""], "BadParameter: --reason: empty"),
    ],
)
def test_a_command_that_makes_no_sense_ends_in_one_message_and_changes_nothing(
    line: Line, story: Story, ended: Ended, command: Command, words: list[str], message: str
) -> None:
    before = line.aliases
    filled = [word.format(champion=before["champion"]) for word in words]
    text = ended(command, "--model_name", line.name, *filled)
    assert message.format(name=line.name, champion=before["champion"]) in text
    assert len(text.strip().splitlines()) == 1
    assert line.aliases == before


def test_a_version_that_nobody_judged_is_not_promoted_unless_told_so(line: Line, story: Story, ended: Ended) -> None:
    before = line.aliases
    source = line.experiment.client.get_model_version(line.name, "1").source
    version = str(mlflow.register_model(source, line.name).version)
    words = ["--model_name", line.name, "--version", version, "--reason", "an outsider"]
    assert f"NoVerdict: {line.name} version {version}: no verdict" in ended(promote, *words)
    assert line.aliases == before
    promote([*words, "--without_verdict", "true"])
    assert line.aliases["champion"] == int(version)
    move(line, str(before["champion"]))


def test_without_a_registry_the_commands_say_so(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = mlflow.get_tracking_uri()
    message = "TrackingUnreachable: the tracking server http://127.0.0.1:9 does not respond"
    assert message in ended(models)
    assert message in ended(rollback, "--reason", "x")
    mlflow.set_tracking_uri(before)


def test_of_a_model_that_is_not_there_the_commands_say_so(store: str, ended: Ended) -> None:
    assert "no registered model nobody" in ended(models, "--model_name", "nobody")
    assert "no registered model nobody" in ended(rollback, "--model_name", "nobody", "--reason", "x")
