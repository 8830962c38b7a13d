"""The edge cache in front of the real app: pages are kept, and none is older than CACHE_EXPIRY."""

import http.client
import re
import time
from contextlib import closing

import pytest
from databases import connect
from polling import poll
from stacks import running_stack

from weather.waiting import ANSWER_LIMIT

EXPIRY = 2  # seconds
PAGES = ["/", "/?q=a", "/locations", "/locations?q=a"]
LISTED = "Aa"  # the first of all locations, and of those with the most records


@pytest.fixture(scope="module")
def stack():
    """One with the edge cache, whose list of locations soon ends."""
    with running_stack(TOTAL_RECORDS=20_000, EDGE_CACHE="on", CACHE_EXPIRY=EXPIRY) as stack:
        yield stack


@pytest.fixture
def get(stack):
    """Asks over one connection: nginx keeps an answer just after it has sent it, so that another
    worker, asked at once, has not got it yet."""
    with closing(http.client.HTTPConnection(*stack.address, timeout=10)) as connection:

        def get(path):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.headers, response.read().decode()

        yield get


def second_of_two(get, path):
    """The second of two answers in a row, when it is a hit; its body is that of the first."""
    (_, first), (headers, second) = get(path), get(path)
    return headers if headers["X-Edge-Cache"] == "hit" and second == first else None


@pytest.mark.parametrize("path", PAGES)
def test_the_second_request_for_a_page_is_a_hit(stack, get, path):
    # Not the first two may be it: those may come in the last second of the list, which is not kept.
    headers = poll(lambda: second_of_two(get, path))
    assert headers.get_all("X-Cache") == ["bypass"]
    assert headers["X-Served-By"] in {replica.name for replica in stack.replicas}
    assert headers.get_all("Cache-Control") == ["no-cache"]
    assert headers["X-Accel-Expires"] is None


@pytest.mark.parametrize("name", ["style.css", "locations.js", "icon.svg"])
def test_the_second_request_for_a_static_file_is_a_hit(get, name):
    path = re.search(rf"/static/{name}\?v=\w+", get("/")[1]).group()
    headers = poll(lambda: second_of_two(get, path))
    assert "max-age=31536000" in headers["Cache-Control"]


@pytest.mark.parametrize(
    ("path", "edge"),
    [
        ("/static/style.css", "bypass"),
        ("/static/style.css?v=0", "miss"),
        ("/?q=Atlantis", "miss"),
        ("/?x=1", "bypass"),
        ("/locations?x=1", "bypass"),
    ],
)
def test_what_may_change_or_is_empty_is_not_kept(get, path, edge):
    assert [get(path)[0]["X-Edge-Cache"] for _ in range(3)] == [edge] * 3


def test_no_page_shows_a_list_that_is_older_than_its_expiry(stack, get):
    """Each replica has a list of its own, and those that the edge does not ask let theirs end.

    Where PostgreSQL gives no new one in ANSWER_LIMIT a replica shows the old list; the edge never.
    """
    for path in PAGES:
        poll(lambda path=path: second_of_two(get, path))
    with closing(connect(stack.client_environ)) as connection, connection, connection.cursor() as c:
        c.execute("INSERT INTO weather_locations VALUES (%s, 1000000, 0)", (LISTED,))
    changed = time.monotonic()
    old, hits = [], set()

    def watched_long_enough():
        for path in PAGES:
            sent = time.monotonic()
            headers, body = get(path)
            waited = time.monotonic() - sent >= ANSWER_LIMIT
            if LISTED in body:
                hits.update([path] if headers["X-Edge-Cache"] == "hit" else [])
            elif headers["X-Edge-Cache"] == "hit" or not waited:
                old.append((sent - changed, path, headers["X-Edge-Cache"]))
        return time.monotonic() > changed + 4 * EXPIRY

    poll(watched_long_enough, 10 * EXPIRY)
    late = [answer for answer in old if answer[0] > EXPIRY]
    assert "hit" not in {edge for _, _, edge in late}, late
    logs = "".join(replica.log_path.read_text() for replica in stack.replicas)
    assert late == [] or "the list of locations stays as it is" in logs
    assert {edge for _, _, edge in old} >= {"hit"}, "no old page was kept: nothing was tested"
    assert hits == set(PAGES)
