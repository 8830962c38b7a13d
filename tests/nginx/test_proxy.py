"""The proxy and load balancer: headers, limits, retries and dead replicas."""

import json
import select
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from polling import poll

from .conftest import Nginx, Upstream

AT_ONCE = 1.5  # seconds: less than nginx waits for a silent replica, more than a busy machine takes


@pytest.fixture
def own_upstreams():
    """Upstreams that a test may kill."""
    started = [Upstream(name) for name in ("one", "two", "three")]
    yield started
    for upstream in started:
        upstream.kill()


@pytest.fixture
def own_balancer(own_upstreams):
    with Nginx(own_upstreams) as nginx:
        yield nginx


def test_requests_are_spread_over_all_upstreams(balancer):
    served = Counter(balancer.ask().headers["X-Served-By"] for _ in range(60))
    assert sorted(served) == ["flask", "flask_replica_1", "flask_replica_2"]
    assert min(served.values()) >= 10


def test_the_upstream_sees_the_true_client_and_the_host(balancer):
    forged = {"X-Forwarded-For": "10.9.8.7", "Host": "weather.example", "Accept-Encoding": "gzip"}
    headers = balancer.ask(headers=forged | {"X-Request-Start": "1"}).json["headers"]
    assert [value for name, value in headers if name == "x-forwarded-for"] == ["127.0.0.1"]
    seen = dict(headers)
    assert seen["host"] == "weather.example"
    assert seen["x-forwarded-proto"] == "http"
    assert len(seen["x-request-id"]) == 32
    assert abs(time.time() - float(seen["x-request-start"])) < AT_ONCE
    assert "connection" not in seen
    assert "accept-encoding" not in seen


def test_connections_to_the_upstreams_are_kept(balancer):
    connections = {balancer.ask().json["connection"] for _ in range(60)}
    assert len(connections) <= 12  # at most one per upstream and worker, were each worker asked


CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


def check_headers(answer):
    """What every answer has, once, whoever made it."""
    assert answer.headers.get_all("Content-Security-Policy") == [CSP]
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.get_all("Referrer-Policy") == ["same-origin"]
    assert answer.headers.get_all("X-Edge-Cache") == ["off"]
    assert answer.headers.get_all("Server") == ["nginx"]
    assert b"nginx/" not in answer.body


@pytest.mark.parametrize("path", ["/", "/?status=503", "/?status=404&referrer-policy=same-origin"])
def test_every_answer_of_an_upstream_is_hardened(balancer, path):
    check_headers(balancer.ask(path=path))


JSON = "application/json"


@pytest.mark.parametrize(
    ("accept", "content_type", "path", "expected"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "", "/query", "text/html"),
        ("*/*", "application/x-www-form-urlencoded", "/query", "text/html"),
        ("text/html", JSON, "/query", "text/html"),
        ("", "", "/locationsx", "text/html"),
        (JSON, "application/x-www-form-urlencoded", "/query", JSON),
        ("*/*", JSON, "/query", JSON),
        ("", "Application/JSON; charset=utf-8", "/query", JSON),
        ("*/*", "", "/locations?q=x", JSON),
    ],
)
def test_nginxs_own_errors_are_html_or_json_as_the_client_asks(
    balancer, accept, content_type, path, expected
):
    headers = {"Accept": accept, "Content-Type": content_type}
    answer = balancer.ask("POST", path, "x" * 4097, headers)
    assert answer.status == 413
    check_headers(answer)
    assert answer.headers.get_all("Content-Type") == [expected]
    assert answer.headers.get_all("Cache-Control") == ["no-cache"]
    if expected == JSON:
        assert answer.json == {"error": "The request body is larger than 4096 bytes."}
    else:
        assert b"<h1>Error 413</h1>" in answer.body


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "allow"),
    [
        ("TRACE", "/query", {}, 405, "OPTIONS, POST"),
        ("TRACE", "/query?x", {}, 405, "OPTIONS, POST"),
        ("TRACE", "/", {}, 405, "GET, HEAD, OPTIONS"),
        ("GET", "/error.json", {}, 404, None),  # where nginx keeps its own errors
        ("GET", "/", {"X-Long": "x" * 9000}, 431, None),
        ("POST", "/", {"Transfer-Encoding": "gzip"}, 501, None),
        ("GET", "/", {"Host": "a b"}, 400, None),
    ],
)
def test_each_of_nginxs_own_errors_is_hardened(balancer, method, path, headers, status, allow):
    answer = balancer.ask(method, path, headers={"Accept": JSON} | headers)
    assert answer.status == status
    check_headers(answer)
    assert answer.headers["Allow"] == allow
    assert list(answer.json) == ["error"]


def test_a_head_request_gets_no_body_with_its_error(balancer):
    answer = balancer.ask("HEAD", "/error.json")
    assert answer.status == 404
    assert answer.body == b""
    check_headers(answer)


@pytest.mark.parametrize(
    ("count", "length", "status"), [(1, 4200, 431), (30, 1000, 431), (7, 1000, 200), (2, 3900, 200)]
)
def test_headers_of_8_kb_are_taken_and_no_more(balancer, count, length, status):
    """Each client may hold as much of nginx's memory."""
    headers = {f"X-{number}": "x" * length for number in range(count)}
    assert balancer.ask(headers=headers).status == status


def test_https_is_for_a_year_where_the_load_balancer_says_so(balancer):
    name = "Strict-Transport-Security"
    https = {"X-Forwarded-Proto": "https"}
    for path in ("/", "/?status=404", "/metrics"):
        assert balancer.ask(path=path, headers=https).headers.get_all(name) == ["max-age=31536000"]
        assert balancer.ask(path=path).headers[name] is None


def test_a_body_over_4_kb_is_refused(balancer):
    assert balancer.ask("POST", "/query", "x" * 4096).status == 200
    assert balancer.ask("POST", "/query", "x" * 4097).status == 413


def test_large_json_is_compressed_and_a_small_answer_is_not(balancer):
    gzip = {"Accept-Encoding": "gzip"}
    large = balancer.ask(path="/?padding=600000", headers=gzip)
    assert large.headers["Content-Encoding"] == "gzip"
    assert len(large.body) < 20_000
    assert balancer.ask(path="/", headers=gzip).headers["Content-Encoding"] is None


def test_the_apps_own_503_is_passed_on_and_not_retried(balancer):
    answer = balancer.query(path="/query?status=503&retry-after=7&x-refused-by=pool")
    assert answer.status == 503
    assert answer.headers.get_all("Retry-After") == ["7"]
    assert answer.headers.get_all("X-Refused-By") == ["pool"]
    assert answer.json["method"] == "POST"
    line = poll(lambda: balancer.log_line("retry-after=7"))
    assert "upstream_status=503 " in line


def test_a_503_without_retry_after_gets_one(balancer):
    assert balancer.query(path="/query?status=503").headers.get_all("Retry-After") == ["1"]


def test_the_access_log_has_cache_status_upstream_and_timings(balancer):
    balancer.ask(path="/health-check?log")
    line = poll(lambda: balancer.log_line("check?log"))
    for part in ("edge=off", "upstream=127.0.0.1:", "upstream_status=200", "upstream_time=0.0"):
        assert part in line


@pytest.fixture
def json_logger(upstreams):
    with Nginx(upstreams, log_format="json") as nginx:
        yield nginx


def test_a_line_of_the_json_log(json_logger):
    answer = json_logger.query(path='/query?"log"')
    fields = json.loads(poll(lambda: json_logger.log_line("log")))
    assert fields["request"] == 'POST /query?"log" HTTP/1.1'
    assert fields["status"] == 200
    assert 0 <= fields["seconds"] < AT_ONCE
    assert fields["upstream_status"] == "200"
    assert ["x-request-id", fields["request_id"]] in answer.json["headers"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/%6detrics", "/x/../metrics?a"])
def test_metrics_are_not_there_from_outside(balancer, method, path):
    answer = balancer.ask(method, path)
    assert answer.status == 404
    assert "X-Served-By" not in answer.headers  # no upstream was asked
    check_headers(answer)


def test_a_killed_upstream_costs_no_request_and_comes_back(own_balancer, own_upstreams):
    victim = own_upstreams[0]
    for _ in range(3):  # leave idle connections to it
        own_balancer.query()
    victim.kill()
    answers = [own_balancer.query() for _ in range(40)]
    assert {answer.status for answer in answers} == {200}
    assert max(answer.seconds for answer in answers) < AT_ONCE
    victim.start()
    poll(lambda: own_balancer.query().headers["X-Served-By"] == victim.name)


def test_a_frozen_upstream_costs_no_request(own_balancer, own_upstreams):
    own_upstreams[0].signal(signal.SIGSTOP)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: own_balancer.query(), range(200)))
    own_upstreams[0].signal(signal.SIGCONT)
    assert {answer.status for answer in answers} == {200}
    assert max(answer.seconds for answer in answers) < 5
    # At 8 at once the frozen one gets a few and is then left out.
    assert sum(answer.seconds > 1 for answer in answers) <= 8


ASKED = 30  # times, so that each upstream is


def served(nginx):
    """Requests that all upstreams have had before."""
    answers = [nginx.ask().json for _ in range(ASKED)]
    return sum({one["name"]: one["served"] for one in answers}.values()) - ASKED


@pytest.mark.parametrize(
    ("method", "path", "repeated"),
    [
        ("POST", "/query", True),
        ("GET", "/", True),
        ("GET", "/x", True),
        ("POST", "/", False),
        ("POST", "/query/x", False),
    ],
)
def test_only_what_may_be_done_twice_is_repeated(own_balancer, method, path, repeated):
    """The upstreams cut the connection once they have the request: it may have been done."""
    before = served(own_balancer) + ASKED
    answer = own_balancer.ask(method, path, "", {"X-Answer": "cut=1"})
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert (served(own_balancer) - before > 1) == repeated


@pytest.mark.parametrize("count", [1, 3])
def test_all_down_is_a_fast_503_and_recovers(own_upstreams, count):
    chosen = own_upstreams[:count]
    with Nginx(chosen) as nginx:
        for upstream in chosen:
            upstream.kill()
        for accept, content_type, text in (
            ("application/json", "application/json", b'{"error": "'),
            ("text/html,*/*", "text/html", b"<!doctype html>"),
        ):
            for _ in range(10):
                answer = nginx.query(headers={"Accept": accept})
                assert answer.status == 503
                assert answer.seconds < AT_ONCE
                assert answer.headers["Retry-After"] == "1"
                assert "X-Refused-By" not in answer.headers  # so clients know who refused
                assert answer.headers["Content-Type"] == content_type
                check_headers(answer)
                assert answer.body.startswith(text)
        for upstream in chosen:
            upstream.start()
        # Each is left out for a second after its failures; all at once never are.
        assert nginx.query().status == 200


def test_behind_one_address_too_an_overload_is_refused_at_once(own_upstreams):
    """As on ECS: nginx can't tell the replicas apart. 2 are let in, and 8 more as a burst."""
    frozen = own_upstreams[0]
    with Nginx([frozen], upstream_requests="2") as nginx, ThreadPoolExecutor(40) as clients:
        frozen.signal(signal.SIGSTOP)
        asked = [clients.submit(nginx.query) for _ in range(40)]
        poll(lambda: sum(one.done() for one in asked) == 30)
        frozen.signal(signal.SIGCONT)
        answers = [one.result() for one in asked]
    refused = [answer for answer in answers if answer.status == 503]
    assert Counter(answer.status for answer in answers) == {200: 10, 503: 30}
    assert max(answer.seconds for answer in refused) < AT_ONCE
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}


@pytest.mark.parametrize("path", ["/query", "/x"])
def test_a_post_that_no_upstream_has_seen_goes_to_the_next(own_balancer, own_upstreams, path):
    own_upstreams[0].kill()
    assert {own_balancer.ask("POST", path, "").status for _ in range(20)} == {200}


def test_slow_clients_are_closed(balancer):
    """A header has 8 s as a whole, and a body 2 s between two reads: it goes first."""
    start = time.monotonic()
    head = b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
    with ExitStack() as exits:
        header, body = (
            exits.enter_context(socket.create_connection(("127.0.0.1", balancer.port), timeout=11))
            for _ in range(2)
        )
        header.sendall(head + b"X-Slow: ")
        body.sendall(head + b"\r\nloca")
        closed = []
        while len(closed) < 2:
            waiting = [client for client in (header, body) if client not in closed]
            readable, _, _ = select.select(waiting, [], [], 10)
            assert all(is_closed(client) for client in readable)
            closed += readable
        assert closed == [body, header]
        assert time.monotonic() - start < 10


def is_closed(client):
    """Whether nothing more comes, of an answer either."""
    try:
        return client.recv(1024) == b""
    except ConnectionResetError:
        return True
