"""The page /try in headless Chromium: keyboard only, 400 pixels wide, with and without an API key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepkit.paths import ROOT
from stepkit.table.columns import Columns, read_columns
from tests.support.browser import Browser, start_browser
from tests.support.scoring_servers import Server, read_logged_rows, start_scorer
from tests.support.trained_champion import Champion, register_two_versions

KEY = "a-secret-key"
HOSTILE = "<img src=x onerror=\"document.title='broken'\">" + "w" * 80
TEXT_OF_ANSWER = "document.getElementById('result').innerText"
HAS_ANSWER = "document.getElementById('verdict') !== null"


def make_hostile_columns() -> Columns:
    """Return data/uci.yaml with markup in a column's label and in the display name of a code."""
    columns = read_columns(ROOT / "data" / "uci.yaml")
    bill = columns.columns["BILL_AMT1"].model_copy(update={"label": HOSTILE})
    education = columns.columns["EDUCATION"]
    education = education.model_copy(update={"labels": {**education.labels, 2: HOSTILE}})
    return columns.model_copy(update={"columns": {**columns.columns, "BILL_AMT1": bill, "EDUCATION": education}})


@pytest.fixture(scope="module")
def versions(store: str, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return register_two_versions("test_try_page", tmp_path_factory.mktemp("trained"), make_hostile_columns())


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with start_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(params=[1280, 400])
def page(request: pytest.FixtureRequest, chromium: Browser, running: Server) -> Browser:
    """The form of the running scorer, on a wide and on a narrow screen."""
    return open_form(chromium, running, request.param)


def open_form(browser: Browser, server: Server, width: int = 1280) -> Browser:
    browser.requested.clear()
    browser.problems.clear()
    browser.resize(width, 900)
    browser.open(f"{server.url}/try")
    browser.wait("document.querySelectorAll('.field').length === 23")
    return browser


def get_focus(browser: Browser) -> str:
    """Return the label of the focused field, or the text of the focused button."""
    focused: str = browser.run("(e => e.labels?.[0]?.textContent || e.textContent)(document.activeElement)")
    return focused


def focus(browser: Browser, text: str) -> None:
    """Press Tab until the focus is on the field or button with this text."""
    for _ in range(60):
        if get_focus(browser) == text:
            return
        browser.press("Tab")
    raise AssertionError(f"Tab never reaches '{text}'")


def fill(browser: Browser, label: str, value: str) -> None:
    """Replace the text of a field, with keys only."""
    focus(browser, label)
    browser.press("End")
    browser.press("Backspace", times=12)
    if value:
        browser.type(value)


def has_horizontal_scrolling(browser: Browser) -> bool:
    return bool(browser.run("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def read_answer(browser: Browser) -> dict[str, Any]:
    """Return the numbers of the page by the first line of each row of the table, once there is an answer."""
    browser.wait(HAS_ANSWER)
    rows = browser.run(
        "[...document.querySelectorAll('#details > table tbody tr')].filter(row => row.cells.length === 2)"
        ".map(row => [row.cells[0].innerText.split('\\n')[0], row.cells[1].innerText.replace('\\u2212', '-')])"
    )
    return {title: float(number) for title, number in rows}


def test_a_client_is_refused_with_reasons_by_keyboard_alone(page: Browser, running: Server) -> None:
    months = [f"Repayment status in {month}" for month in ("September", "August", "July", "June")]
    for month in months:
        focus(page, month)
        page.press("ArrowDown", times=2)  # from 0 to 2
    fill(page, "Credit limit", "20000")
    changed = "[...document.querySelectorAll('.changed label')].map(label => label.textContent)"
    assert page.run(changed) == ["Credit limit", *months]
    page.press("Enter")
    shown = read_answer(page)
    request_id = page.run("document.querySelector('#details code').textContent")
    logged = read_logged_rows(running.folder, request_id)
    (row,) = logged[[str(name) for name in logged if str(name).isupper()]].to_dict("records")
    assert (row["PAY_0"], row["PAY_4"], row["LIMIT_BAL"], request_id[:4]) == (2, 2, 20000, "try-")
    body = {"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}, "params": {"reasons": 4}}
    (answer,) = running.score(body).json()["predictions"]
    assert answer["class"] == 1
    assert "Refused" in page.run(TEXT_OF_ANSWER)
    assert shown["Probability"] == pytest.approx(answer["probability"], abs=5e-5)
    assert shown["Baseline: probability of the reference client"] == pytest.approx(answer["baseline"], abs=5e-5)
    effects = {reason["label"]: reason["effect"] for reason in answer["reasons"] if reason["effect"] > 0}
    assert effects
    assert {title.partition(":")[0] for title in shown} >= effects.keys()
    parts = [value for title, value in shown.items() if title != "Probability"]
    assert sum(parts) == pytest.approx(shown["Probability"], abs=5e-4)
    assert page.run("document.querySelectorAll('#details > table .bar .towards').length") >= 1
    assert not page.problems


def test_nothing_scrolls_sideways_and_everything_comes_from_the_scorer(page: Browser, running: Server) -> None:
    assert not has_horizontal_scrolling(page)
    focus(page, "Age")
    page.press("Enter")
    page.wait(HAS_ANSWER)
    assert not has_horizontal_scrolling(page)
    assert [url for url in page.requested if not url.startswith((f"{running.url}/", "data:"))] == []
    assert page.run("document.title") == "Try the model", "a label ran as markup"
    assert not page.run("document.querySelectorAll('img').length")
    assert page.run(f"document.body.textContent.includes({json.dumps(HOSTILE)})")


def test_the_order_of_tab_is_that_of_the_page_and_the_focus_is_visible(page: Browser) -> None:
    places = []
    focus(page, "Credit limit")
    while (text := get_focus(page)) != "Reset":
        places.append(text)
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", text
        middle = "(({left, top, width, height}) => document.elementFromPoint(left + width / 2, top + height / 2))"
        visible = f"{middle}(document.activeElement.getBoundingClientRect()) === document.activeElement"
        assert page.run(visible), f"{text} is covered, or outside of the screen"
        page.press("Tab")
    labels = page.run("[...document.querySelectorAll('.field label')].map(label => label.textContent)")
    assert places == [*labels, "Get the answer"]
    assert page.run("[...document.querySelectorAll('input, select')].every(field => field.labels.length === 1)")


def test_an_empty_field_is_a_missing_value_and_reset_brings_the_reference_row_back(
    chromium: Browser, running: Server
) -> None:
    page = open_form(chromium, running)
    fill(page, "Age", "")
    page.press("Enter")
    page.wait(HAS_ANSWER)
    logged = read_logged_rows(running.folder, page.run("document.querySelector('#details code').textContent"))
    assert logged["AGE"].isna().all()
    assert page.run("document.querySelectorAll('.changed').length") == 1
    focus(page, "Reset")
    page.press("Enter")
    assert page.run("document.querySelectorAll('.changed').length") == 0
    assert not page.run(HAS_ANSWER)
    assert page.run("document.querySelector('.field input').value") == str(
        running.get("/try/form").json()["columns"][0]["reference"]
    )


def test_an_error_of_the_scorer_is_at_its_field_and_the_answer_and_the_error_are_announced(
    chromium: Browser, running: Server
) -> None:
    page = open_form(chromium, running)
    fill(page, "Age", "young")
    page.press("Enter")
    page.wait("document.querySelector('[aria-invalid]') !== null")
    assert get_focus(page) == "Age"
    described = page.run(
        "document.activeElement.getAttribute('aria-describedby').split(' ')"
        ".map(id => document.getElementById(id).textContent).join(' ')"
    )
    assert "AGE: not a number" in described
    status = "document.querySelector('[role=status]').innerText"
    assert "BAD_REQUEST" in page.run(status)
    fill(page, "Age", "150")
    assert "Outside the range of the data: 18 to 120" in page.run("document.activeElement.parentElement.innerText")
    page.press("Enter")
    page.wait(HAS_ANSWER)
    assert "Approved" in page.run(status)
    assert page.run("document.querySelector('[aria-invalid]') === null")


def test_the_page_follows_the_scorer_to_another_version(trained: Champion, chromium: Browser, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name) as server:
        page = open_form(chromium, server)
        fill(page, "Age", "51")
        trained.promote("2")
        page.wait(f"fetch('{server.url}/health').then(a => a.json()).then(a => a.model.version === '2')")
        page.press("Enter")
        page.wait(HAS_ANSWER)
        assert "version 2" in page.run("document.getElementById('about').textContent")
        assert page.run("[...document.querySelectorAll('.changed input')].map(field => field.value)") == ["51"]
    trained.promote("1")


def test_with_a_key_nothing_about_the_model_is_shown_before_the_key(
    trained: Champion, chromium: Browser, tmp_path: Path
) -> None:
    names = [trained.name, *trained.row]
    with start_scorer(tmp_path, trained.name, env={"SCORER_API_KEY": KEY}) as server:
        shell, form = server.get("/try"), server.get("/try/form")
        assert (shell.status_code, form.status_code) == (200, 401)
        assert shell.headers["x-model-version"] == form.headers["x-model-version"] == ""
        assert [name for name in names if name in shell.text + form.text] == []
        allowed = server.get("/try/form", headers={"Authorization": f"Bearer {KEY}"})
        assert allowed.json()["version"] == allowed.headers["x-model-version"] == "1"
        chromium.requested.clear()
        chromium.open(f"{server.url}/try")
        chromium.wait("document.activeElement.id === 'key'")
        assert [name for name in names if name in chromium.run("document.body.innerText")] == []
        chromium.type("wrong")
        chromium.press("Enter")
        chromium.wait("document.getElementById('trouble').textContent.includes('This API key is wrong')")
        assert chromium.run("document.activeElement.id") == "key"
        chromium.type(KEY)
        chromium.press("Enter")
        chromium.wait("document.querySelectorAll('.field').length === 23")
        assert get_focus(chromium) == "Credit limit"
        chromium.press("Enter")
        chromium.wait(HAS_ANSWER)
        assert not [url for url in [chromium.run("location.href"), *chromium.requested] if KEY in url]
        assert chromium.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        assert KEY not in chromium.run("document.documentElement.outerHTML")
