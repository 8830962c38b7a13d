"""The edge cache never gives a wrong answer and says where each answer came from."""

import itertools
import time

import pytest
from polling import poll

FORM = "application/x-www-form-urlencoded"
fresh = itertools.count()


@pytest.fixture
def edge(edge):
    """Asked over one connection: nginx keeps an answer just after it has sent it, so that another
    worker, asked at once, has not got it yet (once in six times)."""
    with edge.one_connection():
        yield edge


def path(base="/query", expires=60, **query):
    """A URI that no other test uses and that the upstream lets nginx keep for `expires` seconds."""
    parameters = {"test": next(fresh), "x-accel-expires": expires} | query
    return f"{base}?" + "&".join(f"{name}={value}" for name, value in parameters.items())


def test_the_second_identical_query_is_a_hit(edge):
    uri = path()
    first, second = edge.query(path=uri), edge.query(path=uri)
    assert (first.headers["X-Edge-Cache"], first.headers["X-Cache"]) == ("miss", "miss")
    # Redis was not asked for the second one, whatever it said for the first.
    assert (second.headers["X-Edge-Cache"], second.headers["X-Cache"]) == ("hit", "bypass")
    assert second.body == first.body
    assert second.headers["X-Accel-Expires"] is None


@pytest.mark.parametrize("base", ["/", "/locations", "/static/style.css"])
def test_pages_and_static_files_are_kept(edge, base):
    uri = path(base)
    edge.ask(path=uri)
    assert edge.ask(path=uri).headers["X-Edge-Cache"] == "hit"


@pytest.mark.parametrize("base", ["/health-check", "/ready", "/query/other"])
def test_other_routes_are_not(edge, base):
    uri = path(base)
    assert [edge.ask(path=uri).headers["X-Edge-Cache"] for _ in range(2)] == ["bypass"] * 2


def test_near_equal_requests_get_their_own_answers(edge):
    uri = path()
    requests = [
        (method, body, {"Accept": accept, "Content-Type": content_type})
        for method in ("POST", "GET")
        for body in ("location=A", "location=A ", "location=a", "location=B", "location=A&b=", "A")
        for accept in ("text/html", "application/json", "text/html\tapplication/json")
        for content_type in (FORM, "application/json", f"{FORM}; charset=utf-8")
    ]
    for _ in range(2):
        for method, body, headers in requests:
            answer = edge.ask(method, uri, body, headers).json
            assert answer["method"] == method
            assert answer["body"] == body or method == "GET"
            seen = dict(answer["headers"])
            assert (seen["accept"], seen["content-type"]) == tuple(headers.values())
    assert edge.ask(*("POST", uri, *requests[0][1:])).headers["X-Edge-Cache"] == "hit"


def test_parts_of_the_key_cannot_run_into_each_other(edge):
    uri = path()
    edge.ask("POST", uri, "1", {"Accept": "a", "Content-Type": "bc"})
    for accept, content_type, body in (("ab", "c", "1"), ("a", "b", "c1"), ("a", "bc1", "")):
        headers = {"Accept": accept, "Content-Type": content_type}
        assert edge.ask("POST", uri, body, headers).headers["X-Edge-Cache"] != "hit"


def test_head_and_get_do_not_mix(edge):
    for methods in (("HEAD", "GET", "GET"), ("GET", "HEAD", "GET")):
        uri = path("/locations")
        for method in methods:
            answer = edge.ask(method, uri)
            assert answer.status == 200
            assert bool(answer.body) == (method == "GET")


def test_an_empty_body_is_never_kept(edge):
    uri = path()
    for _ in range(2):
        assert edge.ask("POST", uri, "", {"Content-Type": FORM}).headers["X-Edge-Cache"] == "bypass"


def test_a_body_that_spilled_to_a_file_is_never_kept(edge):
    # The framing of one-byte chunks fills nginx's buffer six times over.
    uri = path()
    for letter in (b"a", b"b"):
        answer = edge.ask(
            "POST", uri, iter([letter] * 3000), {"Content-Type": FORM}, encode_chunked=True
        )
        assert answer.status == 200
        assert answer.json["body"] == letter.decode() * 3000
        assert answer.headers["X-Edge-Cache"] == "bypass"


def test_a_key_too_long_for_its_buffer_is_not_kept(edge):
    uri = path()
    accept = {"Accept": "text/html," + "x" * 3000}
    for _ in range(2):
        assert edge.query(path=uri, headers=accept).headers["X-Edge-Cache"] == "bypass"
    for _ in range(2):
        assert edge.ask("POST", uri, "x" * 2100).headers["X-Edge-Cache"] == "bypass"
    longest = {"Accept": "x" * 600, "Content-Type": "a"}
    answers = [edge.ask("POST", uri, "x" * 1300, longest) for _ in range(2)]
    assert [answer.headers["X-Edge-Cache"] for answer in answers] == ["miss", "hit"]


@pytest.mark.parametrize("status", [201, 400, 404, 429, 500, 503])
def test_nothing_but_200_is_kept(edge, status):
    uri = path(status=status)
    for _ in range(2):
        answer = edge.query(path=uri)
        assert (answer.status, answer.headers["X-Edge-Cache"]) == (status, "miss")


def test_without_leave_of_the_app_nothing_is_kept(edge):
    for expires in (0, ""):
        uri = path(expires=expires)
        for _ in range(2):
            assert edge.query(path=uri).headers["X-Edge-Cache"] == "miss"


def test_an_answer_is_kept_through_the_second_that_the_app_names(edge):
    second = int(time.time()) + 2
    uri = path(expires=f"@{second}")
    answers = []

    def expires():
        asked = time.time()
        answers.append((asked, edge.query(path=uri)))
        return answers[-1][1].headers["X-Edge-Cache"] == "expired"

    poll(expires)
    hits = [asked for asked, answer in answers if answer.headers["X-Edge-Cache"] == "hit"]
    assert hits
    assert hits[-1] < second + 1


def test_the_switched_off_cache_says_so(balancer):
    uri = path()
    for _ in range(2):
        answer = balancer.query(path=uri)
        assert (answer.headers["X-Edge-Cache"], answer.headers["X-Cache"]) == ("off", "miss")
