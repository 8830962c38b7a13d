"""Bad input gets its status, a reason and every header, and the next request its answer.

tests/flask/test_query_input.py has the table of unusable input. Here is what nginx and the stack as
a whole make of it.
"""

import json
import socket
import unicodedata
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
CITY = "Port Michael"
MAX_LENGTH = 100  # characters of a location
MAX_BODY = 4096  # bytes
HOST = ("Host: weather.example",)
HARDENING = ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy")


def message(line, *headers, body=b"", host=HOST):
    """A request as it goes over the wire, with a place for the value of Accept.

    It comes first: nginx reads no further than the first header that is wrong.
    """
    head = "\r\n".join((f"{line} HTTP/1.1", "Accept: %s", *host, *headers, "Connection: close"))
    return head.encode("latin-1") + b"\r\n\r\n" + body


def query(body, content_type=FORM, *headers):
    body = body if isinstance(body, bytes) else body.encode()
    length = f"Content-Length: {len(body)}"
    return message("POST /query", f"Content-Type: {content_type}", length, *headers, body=body)


def send(stack, data, accept=JSON):
    """The one answer to the request; fails where there are two, or where the connection stays."""
    host, port = stack.address
    with socket.create_connection((host, port), timeout=10) as client:
        client.sendall(data.replace(b"%s", accept.encode(), 1))
        answer = HTTPResponse(client)
        answer.begin()
        answer.text = answer.read().decode(errors="replace")
        assert client.recv(1) == b""
    return answer


def check_error(answer, accept, reason):
    """The form that every error has, whoever made it."""
    for name in HARDENING:
        assert len(answer.headers.get_all(name)) == 1
    assert answer.headers["Set-Cookie"] is None
    assert answer.headers["Server"] == "nginx"
    assert answer.headers.get_content_type() == accept
    if accept == JSON:
        assert set(fields := json.loads(answer.text)) == {"error"}
        assert reason in fields["error"]
    else:
        assert f"Error {answer.status}" in answer.text
        assert str(escape(reason)) in answer.text


@pytest.fixture
def good_afterwards(stack):
    """The next request is answered, whatever the one before it was."""
    yield
    answer = send(stack, query(urlencode({"location": CITY})))
    assert answer.status == 200
    fields = json.loads(answer.text)
    assert fields["location"] == CITY
    assert fields["records"] > 0


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize("accept", [JSON, "text/html"])
@pytest.mark.parametrize(
    ("body", "reason", "content_type"),
    [
        ("location=a&location=b", "location is given more than once", FORM),
        ('{"location": "\\ud800"}', "broken Unicode", JSON),
    ],
)
def test_unusable_input_is_400_with_the_reason(stack, body, reason, content_type, accept):
    answer = send(stack, query(body, content_type), accept)
    assert answer.status == 400
    check_error(answer, accept, reason)


CHUNKED = "Transfer-Encoding: chunked"
IS_FORM = f"Content-Type: {FORM}"
NOT_HTTP = "not valid HTTP"
TOO_LARGE = "larger than 4096 bytes"
REFUSED = {
    "Content-Length and Transfer-Encoding": (
        message(
            "POST /query", IS_FORM, "Content-Length: 5", CHUNKED, body=b"0\r\n\r\nGET / HTTP/1.1"
        ),
        400,
        NOT_HTTP,
    ),
    "two Content-Length": (
        message("POST /query", IS_FORM, "Content-Length: 1", "Content-Length: 2", body=b"ab"),
        400,
        NOT_HTTP,
    ),
    "negative Content-Length": (
        message("POST /query", IS_FORM, "Content-Length: -1"),
        400,
        NOT_HTTP,
    ),
    "broken chunk": (message("POST /query", IS_FORM, CHUNKED, body=b"zz\r\n"), 400, NOT_HTTP),
    "no Host": (message("GET /", host=()), 400, NOT_HTTP),
    "empty Host": (message("GET /", host=("Host: ",)), 400, NOT_HTTP),
    "two Hosts": (message("GET /", "Host: b"), 400, NOT_HTTP),
    "Host with a space": (message("GET /", host=("Host: a b",)), 400, NOT_HTTP),
    "Host with a path": (message("GET /", host=("Host: a/../b",)), 400, NOT_HTTP),
    "header of 9,000 bytes": (message("GET /", "X-Long: " + "a" * 9000), 431, "longer than 4 KB"),
    "above the static files": (message("GET /static/..%2fapp.py"), 404, "not found"),
    "body of 4,097 bytes": (query("a" * (MAX_BODY + 1)), 413, TOO_LARGE),
    "chunks of 5,000 bytes": (
        message("POST /query", IS_FORM, CHUNKED, body=b"1388\r\n" + b"a" * 5000 + b"\r\n0\r\n\r\n"),
        413,
        TOO_LARGE,
    ),
}


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize("accept", [JSON, "text/html"])
@pytest.mark.parametrize(
    ("data", "status", "reason"), [pytest.param(*case, id=name) for name, case in REFUSED.items()]
)
def test_a_wrong_request_gets_its_status_and_the_reason(stack, data, status, reason, accept):
    answer = send(stack, data, accept)
    assert answer.status == status
    check_error(answer, accept, reason)


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/?q=" + "a" * 5000, 414, "longer than 4 KB"),
        ("/a%00b", 400, NOT_HTTP),
        ("/%zz", 400, NOT_HTTP),
        ("/../../etc/passwd", 400, NOT_HTTP),
    ],
)
def test_a_wrong_request_line_is_a_page(stack, target, status, reason):
    """The headers are not read, so nobody knows that JSON is wanted."""
    answer = send(stack, message(f"GET {target}"))
    assert answer.status == status
    check_error(answer, "text/html", reason)


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize(
    "data",
    [
        message("GET /", host=("Host: <script>",)),
        message("GET /", host=("Host: m\xfcnchen",)),
        message("GET /", host=("Host: " + "a" * 300,)),
        message("GET /", host=("Host: [::1",)),
        message("GET /", host=("Host: a:99999",)),
        message("GET /\xff"),
        message("GET /locations?q=\xff"),
        message("GET /", "X-Control: a\x01b"),
        message("GET /", *(f"X-{number}: a" for number in range(120))),
        message("get /"),
        message("A /"),
        message("X" * 30 + " /"),
        b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",  # the first bytes of TLS
    ],
)
def test_what_is_not_http_is_refused_with_every_header(stack, data):
    """By nginx or, some of them, by gunicorn itself, whose pages have a form of their own."""
    answer = send(stack, data)
    assert answer.status in (400, 431)
    for name in HARDENING:
        assert len(answer.headers.get_all(name)) == 1
    assert "<script>" not in answer.text


READ = {"GET", "HEAD", "OPTIONS"}
METHODS = READ | {"POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"}


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/query", {"POST", "OPTIONS"}),
        *(
            (path, READ)
            for path in ("/", "/locations", "/health-check", "/ready", "/openapi.yaml", "/static/x")
        ),
    ],
)
def test_a_wrong_method_is_405_with_allow(stack, path, allowed):
    for method in METHODS - allowed - {"HEAD"}:
        answer = send(stack, message(f"{method} {path}", "Content-Length: 0"))
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(", ")) == allowed
        check_error(answer, JSON, "not allowed for the requested URL")


@pytest.fixture(scope="module")
def connection(stack):
    """A connection that stays."""
    connection = HTTPConnection(*stack.address, timeout=10)
    yield connection
    connection.close()


NASTY = "<>&'\"{}%$\\/;-+= \t\0\n\x7f\x85\xa0\u200b\u2028\u202e\ufeff\U0010ffff🌦שa"
PLAIN = st.characters(exclude_categories=["Cc", "Cs"])  # no controls, no halves of surrogate pairs
texts = st.one_of(
    st.text(),
    st.text(alphabet=NASTY),
    st.text(PLAIN, min_size=MAX_LENGTH - 2, max_size=MAX_LENGTH + 2),
)


def is_usable(text):
    """The rule: 1 to 100 characters, not all of them blank, none a control character."""
    controls = any(unicodedata.category(character) == "Cc" for character in text)
    return len(text) <= MAX_LENGTH and not text.isspace() and text != "" and not controls


@given(text=texts, kind=st.sampled_from([FORM, JSON]), accept=st.sampled_from([JSON, "text/html"]))
@settings(max_examples=2000, derandomize=True, database=None, deadline=None)
def test_2000_made_up_locations_are_answered_by_the_rule(connection, text, kind, accept):
    fields = {"location": text}
    body = json.dumps(fields) if kind == JSON else urlencode(fields)
    connection.request("POST", "/query", body, {"Content-Type": kind, "Accept": accept})
    answer = connection.getresponse()
    content = answer.read().decode()
    assert answer.headers.get_content_type() == accept
    assert answer.status == (200 if is_usable(text) else 400)
    if accept == JSON and answer.status == 200:
        assert json.loads(content)["location"] == text
    elif accept == JSON:
        assert json.loads(content)["error"].startswith("location ")
    elif answer.status == 200:
        assert f"<h1>{escape(text)}</h1>" in content
        assert "No data available" in content
