"""Bad input gets its status, a reason and every header, and the next request its answer."""

import json
import re
import socket
import unicodedata
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import quote, urlencode

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


UNUSABLE = {
    "missing field": ("", "location is missing"),
    "another field": ("city=a", "location is missing"),
    "empty": ("location=", "location is empty"),
    "blank": ("location=+%20%09", "location is empty"),
    "doubled": ("location=a&location=b", "location is given more than once"),
    "101 characters": ("location=" + "a" * 101, "longer than 100 characters"),
    "101 emoji": ("location=" + quote("🌦" * 101), "longer than 100 characters"),
    "NUL": ("location=a%00b", "control characters"),
    "line break": ("location=a%0D%0Ab", "control characters"),
    "C1 control": ("location=a%C2%85", "control characters"),
    "invalid UTF-8": ("location=%FF", "not valid UTF-8"),
    "raw invalid UTF-8": (b"location=\xff", "not valid UTF-8"),
    "overlong UTF-8": ("location=%C0%AF", "not valid UTF-8"),
    "encoded surrogate": ("location=%ED%A0%80", "not valid UTF-8"),
}
UNUSABLE_JSON = {
    "no body": ("", "not valid JSON"),
    "half an object": ('{"location":', "not valid JSON"),
    "list": ("[]", "not an object"),
    "string": ('"location"', "not an object"),
    "null": ("null", "not an object"),
    "number as location": ('{"location": 5}', "not a string"),
    "null as location": ('{"location": null}', "not a string"),
    "list as location": ('{"location": ["a"]}', "not a string"),
    "object as location": ('{"location": {"$ne": ""}}', "not a string"),
    "no location": ("{}", "location is missing"),
    "blank in JSON": ('{"location": " "}', "location is empty"),
    "doubled in JSON": ('{"location": "a", "location": "b"}', "location is given more than once"),
    "NUL in JSON": ('{"location": "a\\u0000"}', "control characters"),
    "half a surrogate pair": ('{"location": "\\ud800"}', "broken Unicode"),
    "invalid UTF-8 in JSON": (b'{"location": "\xff"}', "not valid UTF-8"),
    "lists 4,000 deep": ("[" * 4000, ""),
    "objects 800 deep": ('{"a":' * 800, ""),
}


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize("accept", [JSON, "text/html"])
@pytest.mark.parametrize(
    ("body", "reason", "content_type"),
    [
        *(pytest.param(*case, FORM, id=name) for name, case in UNUSABLE.items()),
        *(pytest.param(*case, JSON, id=name) for name, case in UNUSABLE_JSON.items()),
    ],
)
def test_unusable_input_is_400_with_the_reason(stack, body, reason, content_type, accept):
    answer = send(stack, query(body, content_type), accept)
    assert answer.status == 400
    check_error(answer, accept, reason)


@pytest.mark.usefixtures("good_afterwards")
@pytest.mark.parametrize(
    "name",
    [
        *("Atlantis", "locations", "null", "undefined", "0", "a" * 100, "🌦" * 100, "שלום", "مدينة"),
        *(
            "' OR 1=1--",
            '"; DROP TABLE weather_data; --',
            "%",
            "_",
            "\\",
            "../../etc/passwd",
            "../",
        ),
        *("<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "</title>", "&lt;"),
        *("{{7*7}}", "${7*7}", "{% raw %}", "%s%n", "\u202eevil", "\ufeff", "a\u0301", "a\u2028b"),
    ],
)
def test_an_unknown_name_is_200_without_data_and_escaped(stack, name):
    for body, kind in (
        (urlencode({"location": name}), FORM),
        (json.dumps({"location": name}), JSON),
    ):
        answer = send(stack, query(body, kind))
        assert answer.status == 200
        expected = {"location": name, "average_temperature": None, "records": 0}
        assert json.loads(answer.text) == expected
        page = send(stack, query(body, kind), "text/html")
        assert page.status == 200
        assert f"<h1>{escape(name)}</h1>" in page.text
        assert re.findall("<script|<img|onerror=", page.text.replace(str(escape(name)), "")) == []
        assert "No data available" in page.text


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
    "header of 9,000 bytes": (message("GET /", "X-Long: " + "a" * 9000), 431, "longer than 8 KB"),
    "no such path": (message("GET /nowhere"), 404, "not found"),
    "above the static files": (message("GET /static/..%2fapp.py"), 404, "not found"),
    "body of 4,097 bytes": (query("a" * (MAX_BODY + 1)), 413, TOO_LARGE),
    "chunks of 5,000 bytes": (
        message("POST /query", IS_FORM, CHUNKED, body=b"1388\r\n" + b"a" * 5000 + b"\r\n0\r\n\r\n"),
        413,
        TOO_LARGE,
    ),
    "JSON 10,000 deep": (query("[" * 10_000, JSON), 413, TOO_LARGE),
    "XML": (query("<a/>", "text/xml"), 415, "Content-Type is neither"),
    "multipart": (query("", "multipart/form-data; boundary=a"), 415, "Content-Type is neither"),
    "no Content-Type": (
        message("POST /query", "Content-Length: 1", body=b"a"),
        415,
        "Content-Type",
    ),
    "filter of 8,000 characters": (message("GET /?q=" + "a" * 8000), 400, "longer than 100"),
    "NUL in the filter": (message("GET /locations?q=%00"), 400, "control characters"),
    "limit of 0": (message("GET /locations?limit=0"), 400, "limit is not a whole number"),
    "limit of 1,001": (message("GET /locations?limit=1001"), 400, "limit is not a whole number"),
    "limit in words": (message("GET /locations?limit=ten"), 400, "limit is not a whole number"),
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
        ("/?q=" + "a" * 9000, 414, "longer than 8 KB"),
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
