"""The form in a real browser: with JavaScript, without it, by keyboard, on a phone."""

import pytest
from browsers import chromium

PHONE = {"width": 375, "height": 667}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser, stack):
    """Opens a path of the stack in a new window; fails the test on errors in the console."""
    contexts, problems = [], []

    def open_page(path="/", **options):
        context = browser.new_context(base_url=stack.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def read_average(page):
    """The temperature that the result page shows, in degC."""
    return float(page.locator("main").inner_text().split("°C")[0].split()[-1])


@pytest.mark.parametrize("javascript", [True, False])
def test_choosing_a_location_shows_its_average(open_page, stack, javascript):
    page = open_page(java_script_enabled=javascript)
    dropdown = page.get_by_label("Location", exact=True)
    location = dropdown.locator("option").nth(42).inner_text()
    dropdown.select_option(location)
    page.get_by_role("button", name="Show average temperature").click()
    page.get_by_role("heading", name=location).wait_for()
    assert -10 <= read_average(page) <= 40
    assert "records" in page.locator("main").inner_text()
    page.get_by_role("link", name="Choose another location").click()
    page.get_by_label("Location", exact=True).wait_for()


def test_typing_filters_the_dropdown(open_page):
    page = open_page()
    page.get_by_label("Find a location").press_sequentially("port mich")
    page.get_by_role("status").get_by_text("match").wait_for()
    options = page.get_by_label("Location", exact=True).locator("option")
    names = options.all_inner_texts()
    assert "Port Michael" in names
    assert all("port mich" in name.lower() for name in names)
    page.get_by_label("Location", exact=True).select_option("Port Michael")
    page.get_by_role("button", name="Show average temperature").click()
    page.get_by_role("heading", name="Port Michael").wait_for()


def test_without_javascript_a_button_filters(open_page):
    page = open_page(java_script_enabled=False)
    page.get_by_label("Find a location").fill("port mich")
    page.get_by_role("button", name="Filter").click()
    names = page.get_by_label("Location", exact=True).locator("option").all_inner_texts()
    assert "Port Michael" in names
    assert all("port mich" in name.lower() for name in names)


def test_the_keyboard_alone_is_enough(open_page):
    page = open_page()
    page.get_by_label("Location", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Choose another location").wait_for()


@pytest.mark.parametrize("path", ["/", "/?q=port"])
def test_nothing_sticks_out_on_a_phone(open_page, path):
    page = open_page(path, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
