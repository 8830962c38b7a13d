"""The report's page in a real browser: wide and on a phone, from a file, without a network."""

import pytest
from browsers import chromium
from playwright.sync_api import expect
from synthetic import capacity_searches, cell, keep

from lab import report

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The URLs of a report and of two side by side."""
    folder = tmp_path_factory.mktemp("page")
    cells = [cell(users=1000), cell(users=4000), cell(users=0, rate=700)]
    searches = capacity_searches(("random", "zipf"), repeats=3)
    local = keep(folder / "local", searches, cells)
    report.write(local)
    compared = report.compare((local, keep(folder / "compose", searches, target="compose")))
    return {"report": f"file://{local / 'report.html'}", "compare": f"file://{compared}"}


@pytest.fixture
def open_page(browser):
    """Opens a page offline; fails the test on a message in the console or a request elsewhere."""
    contexts, problems = [], []

    def open_page(url, size, **options):
        context = browser.new_context(viewport=size, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: asked.url == url or problems.append(asked.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", ["report", "compare"])
def test_nothing_sticks_out(open_page, pages, name, size):
    page = open_page(pages[name], size)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_a_mark_tells_its_numbers(open_page, pages):
    page = open_page(pages["report"], WIDE)
    page.locator('figure:has-text("Goodput over users") [data-tip^="1,"]').first.hover()
    expect(page.locator("#tip")).to_be_visible()
    expect(page.locator("#tip")).to_contain_text("goodput")
    page.get_by_role("heading", level=1).hover()
    expect(page.locator("#tip")).to_be_hidden()


def test_without_javascript_the_browser_shows_the_numbers(open_page, pages):
    page = open_page(pages["report"], WIDE, java_script_enabled=False)
    assert page.locator("svg use > title").count() > 20


def view_box(page):
    return [float(part) for part in page.locator("#zoom svg").get_attribute("viewBox").split()]


def test_a_chart_is_enlarged_zoomed_and_moved(open_page, pages):
    page = open_page(pages["report"], WIDE)
    page.get_by_role("button", name="Enlarge").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    whole = view_box(page)
    page.mouse.move(640, 450)
    page.mouse.wheel(0, -100)
    zoomed = view_box(page)
    assert zoomed[2] < whole[2]
    page.mouse.down()
    page.mouse.move(740, 450)
    page.mouse.up()
    moved = view_box(page)
    assert moved[0] < zoomed[0]
    assert moved[2:] == zoomed[2:]
    dialog.get_by_role("button", name="farther").click()
    assert view_box(page)[2] > moved[2]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_tap_on_a_phone_tells_the_numbers_too(open_page, pages):
    page = open_page(pages["report"], PHONE, has_touch=True, is_mobile=True)
    page.locator("figure [data-tip]").first.tap()
    expect(page.locator("#tip")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Enlarge").first.tap()
    expect(page.get_by_role("dialog")).to_be_visible()
