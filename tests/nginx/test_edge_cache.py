"""The edge cache never gives a wrong answer and says where each answer came from."""

import itertools
import time

import pytest
from polling import poll

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)
KEPT_PATHS = ["/", "/locations", "/static/style.css?v=0a", "/?q=a", "/locations?q=a&limit=5"]
fresh = itertools.count()


@pytest.fixture
def edge(edge):
    """Asked over one connection: nginx keeps an answer just after it has sent it, so that another
    worker, asked at once, has not got it yet (once in six times)."""
    with edge.one_connection():
        yield edge


def keep(expires=60, **answer):
    """Headers with which the upstream lets nginx keep its answer for `expires` seconds."""
    fields = {"x-accel-expires": expires} | answer
    return {"X-Answer": "&".join(f"{name}={value}" for name, value in fields.items())}


def name():
    """A location that no other test uses."""
    return f"Test+{next(fresh)}"


def question(location=None, kind=FORM, accept=JSON, **answer):
    """Arguments of ask() for a query as clients send it."""
    location = location or name()
    body = f"location={location}" if kind == FORM else f'{{"location": "{location}"}}'
    return "POST", "/query", body, {"Content-Type": kind, "Accept": accept} | keep(**answer)


def edge_of(nginx, *request):
    return nginx.ask(*request).headers["X-Edge-Cache"]


def test_the_second_identical_query_is_a_hit(edge):
    query = question()
    first, second = edge.ask(*query), edge.ask(*query)
    assert (first.headers["X-Edge-Cache"], first.headers["X-Cache"]) == ("miss", "miss")
    # Redis was not asked for the second one, whatever it said for the first.
    assert (second.headers["X-Edge-Cache"], second.headers["X-Cache"]) == ("hit", "bypass")
    assert second.body == first.body
    assert second.headers["X-Accel-Expires"] is None


@pytest.mark.parametrize("path", KEPT_PATHS)
def test_pages_and_static_files_are_kept(edge, path):
    edge.ask("GET", path, None, keep())
    assert edge_of(edge, "GET", path, None, keep()) == "hit"


@pytest.mark.parametrize("path", ["/health-check", "/ready", "/query/other"])
def test_other_routes_are_not(edge, path):
    assert [edge_of(edge, "GET", path, None, keep()) for _ in range(2)] == ["bypass"] * 2


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", FIREFOX, CHROME])
def test_what_browsers_send_is_one_answer(edge, accept):
    location = name()
    edge.ask(*question(location, accept="text/html"))
    assert edge_of(edge, *question(location, accept=accept)) == "hit"


def test_both_ways_to_write_json_are_one_answer(edge):
    query = question(kind=JSON)
    edge.ask(*query)
    compact = (query[0], query[1], query[2].replace(": ", ":"), query[3])
    assert edge_of(edge, *compact) == "hit"


# Values of Accept that mean the same, by Content-Type.
SAME = {FORM: {"text/html", "*/*", ""}, JSON: {JSON, "*/*", ""}}


def test_near_equal_requests_get_their_own_answers(edge):
    """An answer of the cache is that of a request with the same method, body and form of answer."""
    location = name()
    requests = [
        (method, body.replace("X", location), accept, content_type)
        for method in ("POST", "GET")
        for body in ("location=X", "location=X+", "location=x", "location=X&b=", '{"location":"X"}')
        for accept in ("text/html", JSON, f"text/html\t{JSON}", f"text/html,{JSON}", "*/*", "")
        for content_type in (FORM, JSON, f"{FORM}; charset=utf-8")
    ]
    hits = set()
    for _ in range(2):
        for method, body, accept, content_type in requests:
            headers = {"Accept": accept, "Content-Type": content_type} | keep()
            answer = edge.ask(method, "/query", body, headers)
            assert answer.json["method"] == method
            assert answer.json["body"] == body or method == "GET"
            seen = dict(answer.json["headers"])
            assert seen["content-type"] == content_type
            same = {seen["accept"], accept} <= SAME.get(content_type, set())
            assert same or seen["accept"] == accept
            hits.update([content_type] if answer.headers["X-Edge-Cache"] == "hit" else [])
    assert hits == {FORM, JSON}


def test_an_answer_in_json_is_not_that_in_html(edge):
    location = name()
    for kind, accept in ((FORM, "text/html"), (FORM, JSON), (JSON, JSON)):
        assert edge_of(edge, *question(location, kind, accept)) == "miss"


def test_head_and_get_do_not_mix(edge):
    for letter, methods in (("b", ("HEAD", "GET", "GET")), ("c", ("GET", "HEAD", "GET"))):
        for method in methods:
            answer = edge.ask(method, f"/locations?q={letter}", None, keep())
            assert answer.status == 200
            assert bool(answer.body) == (method == "GET")


FLUSHES = {
    "arguments": lambda n: ("POST", f"/query?n={n}", "location=A", {}),
    "arguments of the page": lambda n: ("GET", f"/?n={n}", None, {}),
    "arguments after the filter": lambda n: ("GET", f"/?q=a&n={n}", None, {}),
    "arguments of the list": lambda n: ("GET", f"/locations?q=a&limit=5&n={n}", None, {}),
    "arguments of a file": lambda n: ("GET", f"/static/style.css?v=0a&n={n}", None, {}),
    "another way to write a file": lambda n: ("GET", f"/static/styl%6{n + 5}?v=0a", None, {}),
    "another way to write a path": lambda n: ("GET", "/" * (n + 2), None, {}),
    "more fields": lambda n: ("POST", "/query", f"location=A&n={n}", {}),
    "more fields of JSON": lambda n: ("POST", "/query", f'{{"location": "A", "n": {n}}}', {}),
    "blanks in JSON": lambda n: ("POST", "/query", '{"location":' + " " * (n + 2) + '"A"}', {}),
    "escapes in JSON": lambda n: ("POST", "/query", f'{{"location": "\\u004{n}"}}', {}),
    "escapes in a form": lambda n: ("POST", "/query", f"location=%4{n + 1}", {}),
    "Accept": lambda n: ("POST", "/query", "location=A", {"Accept": f"{JSON};n={n}"}),
    "Accept that looks like a browser's": lambda n: (
        *("POST", "/query", "location=A"),
        {"Accept": FIREFOX.replace("0.8", f"0.{n}")},
    ),
    "Content-Type": lambda n: ("POST", "/query", "location=A", {"Content-Type": f"{FORM};n={n}"}),
    "a cookie": lambda n: ("POST", "/query", "location=A", {"Cookie": str(n)}),
    "a log-in": lambda n: ("POST", "/query", "location=A", {"Authorization": str(n)}),
}


def kept(edge):
    """Files of the kept answers."""
    return {path for path in (edge.directory / "edge_cache").rglob("*") if path.is_file()}


@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES)
def test_other_ways_to_ask_the_same_leave_the_kept_answers_alone(edge, flush):
    before = kept(edge)
    for number in (0, 1, 0):
        method, path, body, headers = flush(number)
        kind = JSON if (body or "").startswith("{") else FORM
        headers = {"Content-Type": kind, "Accept": JSON} | headers | keep()
        assert edge_of(edge, method, path, body, headers) == "bypass"
    assert kept(edge) == before


def test_filters_are_kept_apart(edge):
    """There are hundreds of thousands of them: they push out each other only."""
    before = kept(edge)
    for path in ("/?q=apart", "/locations?limit=7&q=apart", "/locations?q=apart"):
        assert [edge_of(edge, "GET", path, None, keep()) for _ in range(2)] == ["miss", "hit"]
    assert kept(edge) == before


@pytest.mark.parametrize("header", ["Cookie", "Authorization"])
@pytest.mark.parametrize("value", ["a=b", "0"])  # nginx takes 0 for "not set" in a condition
@pytest.mark.parametrize("path", ["/query", "/"])
def test_who_says_who_they_are_is_not_answered_from_the_cache(edge, path, header, value):
    method, _, body, headers = question()
    anonymous = (method, path, body, headers) if path == "/query" else ("GET", path, None, headers)
    edge.ask(*anonymous)
    assert edge_of(edge, *anonymous) == "hit"
    personal = (*anonymous[:3], headers | {header: value})
    answer = edge.ask(*personal)
    assert answer.headers["X-Edge-Cache"] == "bypass"
    assert [header.lower(), value] in answer.json["headers"]


def test_an_empty_body_is_never_kept(edge):
    query = ("POST", "/query", "", {"Content-Type": FORM, "Accept": JSON} | keep())
    assert [edge_of(edge, *query) for _ in range(2)] == ["bypass"] * 2


def test_a_body_that_spilled_to_a_file_is_never_kept(edge):
    # The framing of one-byte chunks fills nginx's buffer six times over.
    headers = {"Content-Type": FORM, "Accept": JSON} | keep()
    for letter in (b"a", b"b"):
        answer = edge.ask("POST", "/query", iter([letter] * 3000), headers, encode_chunked=True)
        assert answer.status == 200
        assert answer.json["body"] == letter.decode() * 3000
        assert answer.headers["X-Edge-Cache"] == "bypass"


def test_a_key_too_long_for_its_buffer_is_not_kept(edge):
    longest, longer = "x" * 1200, "x" * 1201
    for _ in range(2):
        assert edge_of(edge, *question(longer)) == "bypass"
        assert edge_of(edge, "GET", f"/?q={longer}", None, keep()) == "bypass"
    assert [edge_of(edge, *question(longest)) for _ in range(2)] == ["miss", "hit"]


@pytest.mark.parametrize("status", [201, 400, 404, 429, 500, 503])
def test_nothing_but_200_is_kept(edge, status):
    query = question(status=status)
    for _ in range(2):
        answer = edge.ask(*query)
        assert (answer.status, answer.headers["X-Edge-Cache"]) == (status, "miss")


def test_without_leave_of_the_app_nothing_is_kept(edge):
    for expires in (0, ""):
        query = question(expires=expires)
        assert [edge_of(edge, *query) for _ in range(2)] == ["miss"] * 2


def test_an_answer_is_kept_through_the_second_that_the_app_names(edge):
    second = int(time.time()) + 2
    query = question(expires=f"@{second}")
    answers = []

    def expires():
        asked = time.time()
        answers.append((asked, edge.ask(*query)))
        return answers[-1][1].headers["X-Edge-Cache"] == "expired"

    poll(expires)
    hits = [asked for asked, answer in answers if answer.headers["X-Edge-Cache"] == "hit"]
    assert hits
    assert hits[-1] < second + 1


def test_the_switched_off_cache_says_so(balancer):
    query = question()
    for _ in range(2):
        answer = balancer.ask(*query)
        assert (answer.headers["X-Edge-Cache"], answer.headers["X-Cache"]) == ("off", "miss")
