"""The report of a pipeline run: all that there is, nothing from elsewhere, and what is missing in words."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from markdown_it import MarkdownIt
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag

from pipeline.launch.forkserver import warm_up
from pipeline.report.__main__ import main
from pipeline.report.at_end import publish_report
from pipeline.report.publish import render_report
from pipeline.report.render import MOST_CHARACTERS
from stepkit.errors import BadParameter
from stepkit.processes import find_free_port
from stepkit.store.lineage import OUTPUT, SIZE, list_published
from stepkit.table.tables import compute_sha256
from tests.conftest import Experiment, create_experiment
from tests.support.html_pages import Page
from tests.support.pipelines import PipelineResult, make_small_forest, run_here, write_small_table
from tests.system.pipeline.test_reuse import find_file

GFM = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
LOADING = {"script", "iframe", "object", "embed", "video", "audio", "source", "base", "form", "foreignobject", "use"}
REFERRING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
NASTY = "<script>alert(1)</script>|`x`\n</table> [a](http://example.org) @you ![i](x.png)"
NASTY_LINE = " ".join(NASTY.split())


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    warm_up()  # as main.py does: three pipelines follow
    mlflow.set_tracking_uri(store)
    return create_experiment("reports", tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def first(place: Experiment, table: Path) -> PipelineResult:
    return run_here(place, f"data.file_url={table}", *make_small_forest())


@pytest.fixture(scope="module")
def second(place: Experiment, table: Path, first: PipelineResult) -> PipelineResult:
    """Another forest on the same splits, held against the champion that the first became."""
    deeper = "random_forest_pipeline.random_forest.max_depth=3"
    return run_here(place, f"data.file_url={table}", *make_small_forest(), deeper)


@pytest.fixture(scope="module")
def failed(place: Experiment, table: Path, first: PipelineResult) -> PipelineResult:
    return run_here(place, f"data.file_url={table}", *make_small_forest(), "data.columns.AGE.max=30")


def texts_of(run: Run) -> tuple[Page, str]:
    """The page and the Markdown that lie with a run."""
    page, markdown = (find_file(run, name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    return Page(page), markdown


def evaluated(here: PipelineResult, name: str = "evaluation.json") -> Any:
    return json.loads(find_file(here.runs.steps["evaluate"], name).read_text())


def anew(place: Experiment, run: Run, base: str = "") -> tuple[Page, str]:
    _, files = render_report(place.client, run.info.run_id, base)
    return Page(files["report.html"]), files["report.md"]


def test_every_pipeline_leaves_a_report_and_names_it(first: PipelineResult) -> None:
    assert not first.error
    assert str(find_file(first.runs.parent, "report.html")) in first.said
    page, markdown = texts_of(first.runs.parent)
    registered = first.runs.steps["register"].data.tags
    title = f"Run report: {registered['model_name']} version {registered['model_version']}"
    assert page.get_text("h1") == page.get_text("title") == title
    assert markdown.startswith(f"## {title}\n\n**✅ Passed the gate")
    assert "Passed the gate" in page.get_text("header")


def test_the_effects_of_the_columns_and_the_reference_row_are_on_the_page(first: PipelineResult) -> None:
    page, _ = texts_of(first.runs.parent)
    evaluation = evaluated(first)
    section = page.get_section("importance")
    for column in evaluation["importance"][:3]:
        assert column["effect"] > 0
        assert f"{column['effect']:.4f}" in section
    training = first.runs.steps["random_forest"].info.run_id
    settings = mlflow.artifacts.load_dict(f"runs:/{training}/model_export/artifacts/settings.json")
    assert evaluation["reference_row"] == settings["reasons"]["reference"]
    assert f"Credit limit{settings['reasons']['reference']['LIMIT_BAL']:,}" in section
    assert find_file(first.runs.steps["evaluate"], "effects.png").stat().st_size > 10_000


@pytest.mark.parametrize("which", ["first", "second", "failed"])
def test_nothing_on_the_page_is_loaded_from_elsewhere(which: str, request: pytest.FixtureRequest) -> None:
    page, _ = texts_of(request.getfixturevalue(which).runs.parent)
    attributes = [pair for one in page.elements for pair in one.attributes.items()]
    referring = {value for name, value in attributes if name in REFERRING}
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {one for one in referring if not one.startswith(("#", "data:image/png;base64,"))} == {"data:,"}
    assert {one[1:] for one in referring if one.startswith("#")} <= set(ids)
    assert page.all(*LOADING) == []
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|expression", page.get_text("style"))
    (policy,) = [one for one in page.all("meta") if "http-equiv" in one.attributes]
    assert policy.attributes["content"].startswith("default-src 'none'")


@pytest.mark.parametrize("which", ["first", "second", "failed"])
def test_the_page_can_be_read_by_everyone(which: str, request: pytest.FixtureRequest) -> None:
    page, _ = texts_of(request.getfixturevalue(which).runs.parent)
    assert (page.misplaced, page.open) == ([], [])
    assert page.all("html")[0].attributes["lang"] == "en"
    levels = [int(one.name[1]) for one in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(one.attributes.get("scope") in ("col", "row") for one in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(len(one.attributes.get("alt", "")) > 15 for one in page.all("img"))


def test_the_metrics_stand_with_their_intervals_beside_the_champions(second: PipelineResult) -> None:
    found = evaluated(second)
    page, markdown = texts_of(second.runs.parent)
    for part in (found["metrics"], found["champion"]["metrics"], found["difference"]):
        auc = part["roc_auc"]
        for text in (page.get_section("metrics"), markdown):
            assert f"{auc['value']:.4f}" in text
            assert f"{auc['low']:.4f} to {auc['high']:.4f}" in text
    assert f"champion (version {found['champion']['version']})" in markdown


def test_confusion_slices_and_gate_are_those_of_the_run(second: PipelineResult) -> None:
    found = evaluated(second)
    verdict = evaluated(second, "verdict.json")
    page, markdown = texts_of(second.runs.parent)
    for text in (" ".join(GFM.render(markdown).split()), page.get_text("main")):
        for count in found["confusion"].values():
            assert f"{count:,} (" in text
        for one in found["slices"]:
            assert one["label"] in text
        assert f"Worst slice: {found['worst_slice']['label']}" in text
    rows = re.findall(r"^\| <code>(\w+)</code> \| (passed|failed) \|", markdown, re.MULTILINE)
    assert rows == [(rule["name"], "passed" if rule["passed"] else "failed") for rule in verdict["rules"]]


def test_the_table_of_steps_tells_ran_from_reused_and_why(second: PipelineResult) -> None:
    _, markdown = texts_of(second.runs.parent)
    assert states_of(markdown) == ["reused"] * 4 + ["ran"] * 3
    assert "random_forest.max_depth 5 -&#62; 3" in markdown


def states_of(markdown: str) -> list[str]:
    steps = markdown.partition("### Steps")[2].partition("### ")[0]
    return re.findall(r"^\| <code>\w+</code> \| ([a-z ]+) \|", steps, re.MULTILINE)


def test_every_plot_is_in_the_page(first: PipelineResult) -> None:
    page, markdown = texts_of(first.runs.parent)
    names = [name for name in list_published(first.runs.steps["evaluate"]) if name.endswith(".png")]
    assert len(page.all("img")) == len([*names, "iv.png of the model step"]) >= 9
    assert "<img" not in GFM.render(markdown)


def test_the_model_card_says_whose_data_they_are_and_what_they_are_not_for(first: PipelineResult) -> None:
    page, markdown = texts_of(first.runs.parent)
    config = yaml.safe_load(find_file(first.runs.parent, "config/config.yaml").read_text(encoding="utf-8"))
    for text in (page.get_section("card"), " ".join(markdown.split("### Model card")[1].split("### ")[0].split())):
        assert "Do not use this model for decisions about people" in text
        assert config["data"]["licence"] in text
        assert " ".join(config["data"]["limits"].split()) in text
        assert "SEX" in text


def test_lineage_names_runs_digests_and_commit(first: PipelineResult) -> None:
    page, _ = texts_of(first.runs.parent)
    text = page.get_section("lineage")
    for run in (first.runs.parent, *first.runs.steps.values()):
        assert run.info.run_id in text
    for run in first.runs.steps.values():
        assert all(run.data.tags[OUTPUT + name] in text for name in list_published(run))
    assert first.runs.steps["download"].data.tags["mlflow.source.git.commit"] in text
    assert f"mlflow=={mlflow.__version__}" in text


def test_what_was_given_can_be_typed_again(second: PipelineResult) -> None:
    _, markdown = texts_of(second.runs.parent)
    (line,) = [line for line in markdown.splitlines() if line.startswith("mlflow run .")]
    assert "random_forest_pipeline.random_forest.max_depth=3" in line
    assert "git checkout" in markdown


def test_a_failed_run_says_first_what_failed_and_why(failed: PipelineResult) -> None:
    assert failed.error
    assert "report.html" in failed.said
    page, markdown = texts_of(failed.runs.parent)
    for text in (page.get_text("header"), markdown):
        assert "Failed at check_data" in text
        assert "AGE: range" in text
        assert "Passed the gate" not in text
    assert markdown.index("AGE: range") < markdown.index("### Steps")
    assert states_of(markdown) == ["ran", "ran", "failed", "ran", *["not run"] * 3]
    assert "has not run" in page.get_section("metrics")
    assert "1 failed" in page.get_section("data")


def test_the_report_is_made_anew_from_the_tracking_server_alone(
    place: Experiment, first: PipelineResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = first.runs.parent.info.run_id
    main(["--run_id", run_id, "--output", str(tmp_path)])
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    again, before = (folder / "report.md" for folder in (tmp_path, find_file(first.runs.parent, "")))
    assert without_moment(again.read_text()) == without_moment(before.read_text())


def without_moment(markdown: str) -> str:
    # The aliases in the registry change: the second version replaces the first champion.
    return re.sub(r"Created .*|\(now .*\)", "", markdown)


def test_a_base_run_stands_beside(place: Experiment, first: PipelineResult, second: PipelineResult) -> None:
    page, markdown = anew(place, second.runs.parent, base=first.runs.parent.info.run_id)
    base, ours = (evaluated(here)["metrics"]["roc_auc"]["value"] for here in (first, second))
    assert "difference to base" in page.get_section("metrics")
    for text in (page.get_section("metrics"), markdown):
        assert f"{base:.4f}" in text
        assert f"{ours - base:+.4f}" in text
    assert "on the same test rows" in markdown


def test_a_base_run_without_metrics_is_said(place: Experiment, second: PipelineResult, failed: PipelineResult) -> None:
    _, markdown = anew(place, second.runs.parent, base=failed.runs.parent.info.run_id)
    assert f"Base run {failed.runs.parent.info.run_id} has no test metrics" in markdown


@pytest.fixture
def evaluate(second: PipelineResult, tmp_path: Path) -> Iterator[Run]:
    """The run of evaluate; its files and those of the pipeline's run may be spoiled: they are put back afterwards."""
    folders = [find_file(run, "") for run in (second.runs.parent, second.runs.steps["evaluate"])]
    for number, folder in enumerate(folders):
        shutil.copytree(folder, tmp_path / str(number))
    yield second.runs.steps["evaluate"]
    for number, folder in enumerate(folders):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / str(number), folder)


def test_a_verdict_that_is_gone_is_no_passed_verdict(place: Experiment, second: PipelineResult, evaluate: Run) -> None:
    find_file(evaluate, "verdict.json").unlink()
    page, markdown = anew(place, second.runs.parent)
    for text in (page.get_text("header"), markdown):
        assert "verdict.json of evaluate" in text
        assert "no longer in the artifact store" in text
        assert "Passed" not in text
    assert "verdict.json is missing" in page.get_section("gate")


def test_an_altered_evaluation_is_not_shown(place: Experiment, second: PipelineResult, evaluate: Run) -> None:
    file = find_file(evaluate, "evaluation.json")
    file.write_text(file.read_text().replace('"value": 0.', '"value": 0.9'))
    page, markdown = anew(place, second.runs.parent)
    assert "evaluation.json of evaluate" in markdown
    assert "sha256 differs" in markdown
    # what the run has logged as metrics is still to be had, intervals too
    auc = evaluate.data.metrics["test_roc_auc"]
    assert f"{auc:.4f}" in page.get_section("metrics")


@pytest.mark.parametrize("text", ["{", "[]", '{"metrics": "none"}', "{}", '{"metrics": {"roc_auc": null}}'])
def test_a_form_that_is_not_known_is_said(place: Experiment, second: PipelineResult, evaluate: Run, text: str) -> None:
    file = find_file(evaluate, "evaluation.json")
    before = evaluate.data.tags[OUTPUT + "evaluation.json"]
    file.write_text(text)
    place.client.set_tag(evaluate.info.run_id, OUTPUT + "evaluation.json", f"sha256:{compute_sha256(file)}")
    try:
        _, markdown = anew(place, second.runs.parent)
    finally:
        place.client.set_tag(evaluate.info.run_id, OUTPUT + "evaluation.json", before)
    assert "evaluation.json" in markdown.split("### ")[0]


def test_when_everything_is_gone_there_is_still_a_page(
    place: Experiment, second: PipelineResult, evaluate: Run
) -> None:
    for run in (second.runs.parent, evaluate):
        shutil.rmtree(find_file(run, ""))
        find_file(run, "").mkdir()
    page, markdown = anew(place, second.runs.parent)
    assert "config/config.yaml of the pipeline run is not in the artifact store" in markdown
    assert "evaluate" in page.get_section("steps")


def forged(place: Experiment, tags: dict[str, str], texts: dict[str, str], parent: str = "", status: str = "") -> Run:
    """A run with these tags and artifacts, recorded as a step would."""
    above = {"mlflow.parentRunId": parent} if parent else {}
    run = place.client.create_run(place.id, tags={**above, **tags})
    for name, text in texts.items():
        place.client.log_text(run.info.run_id, text, name)
        file = find_file(run, name)
        tags = {OUTPUT + name: f"sha256:{compute_sha256(file)}", SIZE + name: str(file.stat().st_size)}
        place.client.log_batch(run.info.run_id, tags=[RunTag(*pair) for pair in tags.items()])
    place.client.set_terminated(run.info.run_id, status or "FINISHED")
    return place.client.get_run(run.info.run_id)


def forged_pipeline(place: Experiment, slices: int = 1) -> Run:
    """A pipeline run in which every text that comes from people is a nasty one."""
    number = {"value": 0.7, "low": 0.6, "high": 0.8}
    one = {"column": NASTY, "label": NASTY, "rows": 9, "positives": 3, "metrics": {"roc_auc": number}}
    evaluation = {
        "rows": 9, "metrics": {"roc_auc": number, NASTY: number}, "slices": [one] * slices, "worst_slice": one,
        "champion": {"version": "1", "reason_not_compared": NASTY, "rows_compared": 0, "rows_excluded": 0,
                     "metrics": {}},
        "cost": {"matrix": {NASTY: 1}, "per_row": 1, "total": 9}, "importance": [{"label": NASTY, **number}],
        "intervals": {"method": NASTY, "resamples": 9, "seed": 4, "level": 0.95},
    }  # fmt: skip
    rules = [{"name": NASTY, "value": 0.5, "threshold": None, "passed": False, "reason": NASTY}]
    checks = "check,outcome,detail\n" + f'"{NASTY}",failed,"{NASTY}"\n' * slices + f'a,skipped,"{NASTY}"\n'
    data = {"name": NASTY, "description": NASTY, "licence": NASTY, "limits": NASTY,
            "columns": {NASTY: {"type": NASTY, "role": NASTY, "values": [NASTY], "meaning": NASTY}}}  # fmt: skip
    tags = {"pipeline_run_id": "", "error": NASTY, "overrides": f"data.name={NASTY_LINE}", "changed_files": NASTY}
    run = forged(place, tags, {"config/config.yaml": yaml.safe_dump({"data": data})}, status="FAILED")
    own = run.info.run_id
    parts = {
        "check_data": forged(place, {"step": "check_data", "error": NASTY}, {"data_checks.csv": checks}, own, "FAILED"),
        "random_forest": forged(place, {"step": "random_forest", "summary": NASTY}, {}, own),
        "evaluate": forged(place, {"step": "evaluate", "summary": NASTY},
                           {"evaluation.json": json.dumps(evaluation), "verdict.json": json.dumps(
                               {"passed": False, "outcome": NASTY, "rules": rules})}, own),
    }  # fmt: skip
    named = [RunTag(f"step.{name}", one.info.run_id) for name, one in parts.items()]
    whys = [RunTag(f"why.{name}", NASTY) for name in parts]
    place.client.log_batch(own, tags=[RunTag("pipeline_run_id", own), *named, *whys])
    return place.client.get_run(own)


@pytest.fixture(scope="module")
def nasty(place: Experiment) -> Run:
    return forged_pipeline(place)


def test_nasty_names_and_messages_do_not_become_markup(place: Experiment, first: PipelineResult, nasty: Run) -> None:
    page, markdown = anew(place, nasty)
    harmless, _ = texts_of(first.runs.parent)
    assert (page.misplaced, page.open) == ([], [])
    assert {one.name for one in page.elements} <= {one.name for one in harmless.elements} | {"pre", "li", "ul"}
    assert page.get_text("header").count(NASTY_LINE) >= 1
    rendered = GFM.render(markdown)
    allowed = {"details", "summary", "code"}
    written = set(re.findall(r"<(\w+)", rendered)) - {
        "h2", "h3", "p", "strong", "ul", "li", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "blockquote",
    }  # fmt: skip
    assert written <= allowed
    for part in re.findall(r"<table>.*?</table>", rendered, re.DOTALL):
        lengths = {len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", part, re.DOTALL)}
        assert len(lengths) == 1
    assert "@you" not in re.sub(r"<pre>.*?</pre>", "", rendered, flags=re.DOTALL)


def test_the_markdown_fits_into_a_comment_and_keeps_what_matters(place: Experiment) -> None:
    page, markdown = anew(place, forged_pipeline(place, slices=600))
    assert len(markdown) <= MOST_CHARACTERS
    assert "Failed at check_data" in markdown
    assert "in report.html" in markdown
    assert page.get_section("slices").count(NASTY_LINE) >= 600


def test_a_run_that_noted_nothing_is_said_to_have_noted_nothing(place: Experiment) -> None:
    run = forged(place, {"pipeline_run_id": "", "error": "the server is gone"}, {}, status="FAILED")
    place.client.set_tag(run.info.run_id, "pipeline_run_id", run.info.run_id)
    page, markdown = anew(place, run)
    assert "the server is gone" in markdown.split("### ")[0]
    assert "No step was started" in page.get_section("steps")
    assert "did not record its overrides" in page.get_section("again")


def test_a_step_run_that_is_gone_is_said(place: Experiment, second: PipelineResult) -> None:
    run_id = second.runs.steps["evaluate"].info.run_id
    place.client.delete_run(run_id)
    try:
        page, markdown = anew(place, second.runs.parent)
    finally:
        place.client.restore_run(run_id)
    assert "deleted" in page.get_section("steps")
    assert "run deleted from the tracking server" in markdown
    assert "Passed" not in markdown.split("### ")[0]


def test_other_runs_are_refused_and_the_right_one_is_named(
    place: Experiment, first: PipelineResult, capsys: pytest.CaptureFixture[str]
) -> None:
    step = first.runs.steps["evaluate"].info.run_id
    with pytest.raises(BadParameter, match=first.runs.parent.info.run_id):
        render_report(place.client, step)
    with pytest.raises(SystemExit, match="1"):
        main(["--run_id", "nothing"])
    told = capsys.readouterr().err
    assert told.startswith("BadParameter: run 'nothing': not found on ")
    assert "Traceback" not in told


def test_a_server_that_is_gone_spoils_the_report_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = publish_report(MlflowClient(f"http://127.0.0.1:{find_free_port()}"), "1f")
    assert said.startswith("failed (TrackingUnreachable: ")
    assert said.endswith("Retry: make report run=1f")
