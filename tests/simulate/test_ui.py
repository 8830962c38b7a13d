"""Locust's page as `make simulate` starts it, in a real browser: the class picker, and a run."""

import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from browsers import chromium
from playwright.sync_api import expect
from polling import poll
from processes import free_ports

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [
    "HomePage",
    "TenLocations",
    "RandomLocations",
    "FixedLocation",
    "WeightedLocations",
    "ZipfLocations",
]


@pytest.fixture
def page():
    with chromium() as browser:
        yield browser.new_page()


@pytest.fixture
def locust(stack, locust_environ):
    """URL of Locust's page, with the defaults of locust.conf."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "locust", "--config", "simulate/locust.conf"]
    command += ["--host", stack.url, "--web-host", "127.0.0.1", "--web-port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=locust_environ) as process:
        url = f"http://127.0.0.1:{port}"
        poll(lambda: process.poll() is not None or answers(url), 30)
        assert process.poll() is None, "Locust ended"
        yield url
        process.terminate()
        process.wait(30)


def answers(url):
    try:
        return urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def test_all_experiments_are_offered_and_one_runs(page, locust):
    page.goto(locust)
    for name in EXPERIMENTS:
        expect(page.get_by_text(name, exact=True)).to_be_attached()
    expect(page.get_by_label("Number of users")).to_have_value("1000")
    expect(page.get_by_label("Ramp up")).to_have_value("10")

    boxes = page.get_by_role("checkbox")
    boxes.first.uncheck()  # all of them
    page.get_by_role("row", name="WeightedLocations").get_by_role("checkbox").check()
    page.get_by_label("Number of users").fill("10")
    page.get_by_role("button", name="Start").click()
    line = page.get_by_role("row", name="/query")
    expect(line).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Stop").click()
    requests = int(line.get_by_role("cell").nth(2).inner_text())
    assert requests > 0
    expect(line.get_by_role("cell").nth(3)).to_have_text("0")  # failures
