"""Locust's page: who may use it, its tab "Stack" and its metrics, in a real browser."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from browsers import chromium
from polling import poll
from processes import free_ports
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
RANDOM = "simulate/post/random-locations.py"
PHONE = {"width": 375, "height": 667}
USERS = 20
SWARM = urlencode({"user_count": USERS, "spawn_rate": USERS})
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PASSWORD = "a long one"
OTHER_SITE = f"""<!doctype html><title>Other</title>
<form method="post" action="%(url)s/swarm"><button>Win</button>
<input name="user_count" value="{USERS}"><input name="spawn_rate" value="{USERS}"></form>
<iframe src="%(url)s/"></iframe>
<script>
const body = new URLSearchParams({{user_count: {USERS}, spawn_rate: {USERS}}});
const read = (path, options) =>
  fetch("%(url)s" + path, options).then(answer => answer.text(), () => "failed");
window.results = Promise.all([
  read("/swarm", {{method: "POST", body}}),
  read("/swarm", {{method: "POST", body, mode: "no-cors"}}),
  read("/stop", {{method: "POST", mode: "no-cors"}}),
  read("/stats/requests"), read("/stack/now"), read("/metrics"),
]);
</script>"""


class Page:
    """A Locust with its page, as people start it."""

    def __init__(self, process, port):
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and text of an answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, body, {**(FORM if body else {}), **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def answers(self):
        try:
            return self.process.poll() is not None or self.ask("GET", "/metrics")
        except OSError:
            return False

    def metrics(self):
        """Samples of /metrics: value by name, or by the label of an outcome or bucket."""
        samples = {}
        for family in text_string_to_metric_families(self.ask("GET", "/metrics")[2]):
            for sample in family.samples:
                label = sample.labels.get("outcome") or sample.labels.get("le")
                samples[(sample.name, label) if label else sample.name] = sample.value
        return samples

    def users(self):
        return self.metrics()["locust_users"]


@contextmanager
def locust(environ, *options, wait=True):
    port, bind_port = map(str, free_ports(2))
    command = [sys.executable, "-m", "locust", "-f", RANDOM, "--web-port", port, *options]
    if "--processes" in options:
        command += ["--master-bind-port", bind_port, "--master-port", bind_port]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    page = Page(process, int(port))
    try:
        if wait:
            poll(page.answers, 30)
            assert process.poll() is None, process.communicate()[1]
        yield page
    finally:
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.communicate()


@pytest.fixture(scope="module")
def page(stack, locust_environ):
    """With two workers, beside a running stack."""
    environ = locust_environ | {"FLASK_URLS": stack.client_environ["FLASK_URLS"]}
    with locust(environ, "--host", stack.url, "--processes", "2") as page:
        poll(lambda: page.metrics()["locust_workers"] == 2, 30)
        yield page


@pytest.fixture(scope="module")
def locked(locust_environ):
    """Open to others, hence with a login; without a stack."""
    environ = locust_environ | {"LOCUST_BIND_ADDRESS": "0.0.0.0", "LOCUST_PASSWORD": PASSWORD}
    environ.pop("FLASK_URLS", None)
    with locust(environ, "--host", "http://127.0.0.1:1") as page:
        yield page


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_window(browser):
    """Opens a URL in a new window."""
    contexts = []

    def open_window(url, **options):
        contexts.append(browser.new_context(**options))
        window = contexts[-1].new_page()
        window.goto(url)
        return window

    yield open_window
    for context in contexts:
        context.close()


@pytest.fixture
def other_site(page):
    """A page on another port that tries to use Locust's."""
    html = (OTHER_SITE % {"url": page.url}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, *_):
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# --- Other pages in the user's browser ---


def test_a_page_of_another_origin_can_neither_start_load_nor_read(page, other_site, open_window):
    window = open_window(other_site)
    started, _, _, *read = window.evaluate("window.results")
    assert {started, *read} == {"failed"}
    window.get_by_role("button", name="Win").click()
    window.get_by_text("another page may not use this one").wait_for()
    assert json.loads(page.ask("GET", "/stats/requests")[2])["state"] == "ready"


def test_another_page_may_link_but_not_frame(page, other_site, open_window):
    window = open_window(other_site)
    assert window.frames[1].locator("#root").count() == 0
    window.evaluate("url => { location = url }", page.url)
    window.get_by_role("button", name="Start").wait_for()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Host": "rebound.example"},
        {"Host": "rebound.example:8089", "Origin": "http://rebound.example:8089"},
        {"Host": "127.0.0.1.rebound.example"},
        {"Host": "["},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/swarm"), ("OPTIONS", "/swarm")])
def test_refused(page, headers, method, path):
    status, answered, _ = page.ask(method, path, SWARM, headers)
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]
    assert page.users() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost", "Host": "localhost"},
        {"Sec-Fetch-Site": "none"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        {"Host": "localhost:8089"},
        {"Host": "[::1]:8089"},
        {"Host": f"{socket.gethostname()}:8089"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/nowhere", "/stats/requests", "/metrics"])
def test_served_without_a_word_on_other_origins(page, headers, path):
    status, answered, _ = page.ask("GET", path, headers=headers)
    assert status == (404 if path == "/nowhere" else 200)
    assert not [name for name in answered if name.lower().startswith("access-control")]
    assert answered["Content-Security-Policy"] == "frame-ancestors 'self'"


# --- The login ---


def test_opened_to_others_it_asks_for_a_password(locked, open_window):
    window = open_window(f"{locked.url}/?tab=stack")
    window.get_by_label("Username").fill("locust")
    for password, seen in (("wrong", "Wrong user or password"), (PASSWORD, "Start")):
        window.locator("[name=username]").fill("locust")
        window.locator("[name=password]").fill(password)
        window.get_by_role("button", name="Login").click()
        window.get_by_text(seen).first.wait_for()
    window.goto(f"{locked.url}/stack")
    window.get_by_text("Set FLASK_URLS to the replicas' addresses").wait_for()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("POST", "/swarm"), ("POST", "/stop"), ("GET", "/stack"), ("GET", "/stack/now")],
)
def test_without_the_password_nothing_happens(locked, method, path):
    status, headers, _ = locked.ask(method, path, SWARM if method == "POST" else None)
    assert (status, headers["Location"].partition("?")[0]) == (302, "/login")
    assert locked.users() == 0


def test_with_a_login_any_name_will_do(locked):
    assert locked.ask("GET", "/login", headers={"Host": "load.example:8089"})[0] == 200


def test_open_without_a_password_is_one_line(locust_environ):
    options = ["--web-host", "0.0.0.0", "--processes", "2"]
    with locust(locust_environ, *options, wait=False) as page:
        output = page.process.communicate(timeout=30)[1]  # which ends with the last worker
        assert page.process.returncode == 2
    assert [line for line in output.splitlines() if line.startswith("LOCUST")] == [
        "LOCUST_PASSWORD and LOCUST_PASSWORD_FILE: neither is set, expected one of them,"
        " as Locust's page is open to others on 0.0.0.0"
    ]
    assert "Traceback" not in output


def test_each_locust_file_has_the_guard():
    """The users' module brings it, in the end."""
    files = [*(ROOT / "simulate").glob("*-*.py"), *(ROOT / "simulate/post").glob("*.py")]
    assert len(files) >= 6
    for path in files:
        assert "\nfrom users.weather_user import " in path.read_text(), path
    assert "\nimport page.start" in (ROOT / "simulate/users/weather_user.py").read_text()


def test_it_listens_on_loopback_unless_told(page):
    with socket.socket() as other:
        other.bind(("127.0.0.2", page.port))  # fails where it listens on every address


# --- The tab ---


def figures(window):
    """Text of each figure at the top of the tab."""
    return dict(
        window.locator(".stack-figures > div").evaluate_all(
            "all => all.map(div => [...div.children].map(child => child.textContent.trim()))"
        )
    )


def rows(window, heading):
    """Cells of each row of a table, by its first cell."""
    table = window.locator(f"h2:text-is('{heading}') + table tbody tr")
    cells = table.evaluate_all(
        "all => all.map(row => [...row.children].map(child => child.textContent.trim()))"
    )
    return {row[0]: row[1:] for row in cells}


def number(text):
    return float(text.replace(",", "")) if re.match(r"\d", text) else 0.0


# Before the test that starts load.
def test_before_any_load_a_link_leads_to_the_stack(page, stack, open_window):
    window = open_window(page.url)
    window.get_by_role("link", name="Stack").click()
    poll(lambda: figures(window).get("Averages per second") == "0")
    assert figures(window)["Replicas"] == "3 of 3 up"
    assert list(rows(window, "Replicas")) == [replica.name for replica in stack.replicas]


@pytest.fixture(scope="module")
def loaded(page, browser):
    """The page's own form starts load; a window with the tab."""
    context = browser.new_context()
    window = context.new_page()
    window.goto(page.url)
    window.get_by_label("Number of users").fill(str(USERS))
    window.get_by_label("Ramp up").fill(str(USERS))
    window.get_by_role("button", name="Start").click()
    window.get_by_role("tab", name="Stack").click()
    poll(lambda: page.users() == USERS, 30)
    yield window
    context.close()
    page.ask("POST", "/stop")


def test_the_tab_shows_what_the_replicas_do(loaded):
    poll(lambda: number(figures(loaded).get("Averages per second", "")) > USERS / 4, 30)
    tiers = rows(loaded, "Who answers")
    assert sum(number(rate) for rate, _, _ in tiers.values()) > 0
    assert any(0 < number(p95) < 2000 for _, _, p95 in tiers.values())
    for answers, p95, refused, pool, waiting, _, cpu in rows(loaded, "Replicas").values():
        assert number(answers) > 0
        assert 0 < number(p95) < 2000
        assert (refused, waiting) == ("0", "0")
        in_use, connections, most = map(int, pool.split(", "))
        assert 0 <= in_use <= connections <= most == 15
        assert cpu.endswith(" %")
    assert figures(loaded)["CPU of Locust"].endswith(" %")


def test_a_replica_that_is_down_is_shown_as_down(loaded, stack):
    replica = stack.replicas[1]
    replica.stop()
    try:
        poll(lambda: rows(loaded, "Replicas").get(replica.name) == ["down: no answer"], 20)
        assert figures(loaded)["Replicas"] == "2 of 3 up"
    finally:
        replica.start()
    poll(lambda: figures(loaded)["Replicas"] == "3 of 3 up", 30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(page, loaded, open_window, scheme):
    window = open_window(f"{page.url}/?tab=stack", viewport=PHONE, color_scheme=scheme)
    window.get_by_role("heading", name="Replicas").wait_for()
    assert window.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    window.goto(f"{page.url}/stack")
    red = window.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) > 128) == (scheme == "light")
    assert window.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_tab_goes_with_the_others(loaded):
    loaded.get_by_role("tab", name="Charts").click()
    loaded.locator(".stack").wait_for(state="detached")
    loaded.get_by_role("tab", name="Stack").click()
    loaded.get_by_role("heading", name="Who answers").wait_for()


def test_metrics_count_what_the_users_of_all_workers_got(page, loaded):
    poll(lambda: page.metrics()["locust_requests_total", "good"] > USERS, 30)
    before = page.metrics()["locust_requests_total", "good"]
    page.ask("POST", "/stop")
    poll(lambda: page.users() == 0, 30)

    def all_counted():
        """Locust's own count, which comes later."""
        total = json.loads(page.ask("GET", "/stats/requests")[2])["stats"][-1]
        return total["num_requests"] == page.metrics()["locust_requests_total", "good"] > before

    poll(all_counted, 20)
    metrics = page.metrics()
    good = metrics["locust_requests_total", "good"]
    for outcome in ("late", "nginx", "pool", "database", "time", "wrong", "network"):
        assert metrics["locust_requests_total", outcome] == 0
    assert metrics["locust_response_time_seconds_count"] == good
    assert metrics["locust_response_time_seconds_bucket", "+Inf"] == good
    assert 0 < metrics["locust_response_time_seconds_sum"] < 2 * good
    buckets = [
        value for name, value in metrics.items() if name[0] == "locust_response_time_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
