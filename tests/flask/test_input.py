"""What clients send: every kind of bad input is refused by name, none raises anything else."""

import pytest

from weather.input import (
    FORM,
    JSON,
    MAX_ACCEPT,
    InputError,
    media_type,
    read_arguments,
    read_limit,
    read_location,
    wants_json,
)


@pytest.mark.parametrize(
    ("kind", "body", "location"),
    [
        (FORM, b"location=Port+Michael", "Port Michael"),
        (FORM, b"location=Port%20Michael&q=x", "Port Michael"),
        (FORM, "location=Malmö".encode(), "Malmö"),
        (FORM, b"location=" + b"%F0%9F%8C%A6" * 100, "🌦" * 100),
        (FORM, b"location= a ", " a "),  # compared with the database as it is
        (JSON, b'{"location": "Port Michael", "x": {"location": 1}}', "Port Michael"),
        (JSON, b'{"location": "\\ud83c\\udf26"}', "🌦"),
        (JSON, '{"location": "שלום"}'.encode(), "שלום"),
    ],
)
def test_good_input(kind, body, location):
    assert read_location(kind, body) == location


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (FORM, b"", "location is missing"),
        (FORM, b"city=x", "location is missing"),
        (FORM, b"location", "location is empty"),
        (FORM, b"location=", "location is empty"),
        (FORM, b"location=+%09", "location is empty"),
        (FORM, b"location=a&location=b", "more than once"),
        (FORM, b"location=" + b"a" * 101, "longer than 100"),
        (FORM, b"location=" + b"%F0%9F%8C%A6" * 101, "longer than 100"),
        (FORM, b"location=a%00", "control characters"),
        (FORM, b"location=a%0Ab", "control characters"),
        (FORM, b"location=a%7F", "control characters"),
        (FORM, b"location=a%C2%85", "control characters"),
        (FORM, b"location=%FF", "UTF-8"),
        (FORM, b"location=\xff", "UTF-8"),
        (FORM, b"location=%ED%A0%80", "UTF-8"),
        (FORM, b"location=%C0%AF", "UTF-8"),
        (JSON, b"", "not valid JSON"),
        (JSON, b"{", "not valid JSON"),
        (JSON, b"\xef\xbb\xbf{}", "not valid JSON"),
        (JSON, b'{"location": "\xff"}', "UTF-8"),
        (JSON, b"[]", "not an object"),
        (JSON, b'"location"', "not an object"),
        (JSON, b"null", "not an object"),
        (JSON, b"NaN", "not an object"),
        (JSON, b"[" * 10_000, "nested too deeply|not valid JSON"),
        (JSON, b'{"a":' * 800, "nested too deeply|not valid JSON"),
        (JSON, b'{"location":' * 10_000, "nested too deeply|not valid JSON"),
        (JSON, b"{}", "location is missing"),
        (JSON, b'{"location": 5}', "not a string"),
        (JSON, b'{"location": null}', "not a string"),
        (JSON, b'{"location": ["a"]}', "not a string"),
        (JSON, b'{"location": {"a": 1}}', "not a string"),
        (JSON, b'{"location": ""}', "location is empty"),
        (JSON, b'{"location": " "}', "location is empty"),
        (JSON, b'{"location": "a", "location": "b"}', "more than once"),
        (JSON, b'{"location": "a\\u0000"}', "control characters"),
        (JSON, b'{"location": "\\ud800"}', "broken Unicode"),
    ],
)
def test_bad_input(kind, body, words):
    with pytest.raises(InputError, match=words):
        read_location(kind, body)


@pytest.mark.parametrize("text", ["&" * 4000, "a=&" * 20 + "location=a"])
def test_more_than_20_fields_are_refused_before_they_are_read(text):
    for read in (
        lambda: read_location(FORM, text.encode()),
        lambda: read_arguments({"QUERY_STRING": text}),
    ):
        with pytest.raises(InputError, match="there are more than 20 fields"):
            read()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("q=a+b&limit=3", {"q": "a b", "limit": "3"}),
        ("q=a&q=b", {"q": "a"}),
        ("q", {"q": ""}),
        ("q=%C3%B6&r=%FF", {"q": "ö", "r": "\ufffd"}),
        ("q=\xc3\xb6", {"q": "ö"}),  # as WSGI gives bytes
        ("&" * 19 + "q=a", {"q": "a"}),
    ],
)
def test_arguments(text, arguments):
    assert read_arguments({"QUERY_STRING": text}) == arguments


@pytest.mark.parametrize(("value", "limit"), [(None, 100), ("1", 1), ("1000", 1000), ("007", 7)])
def test_good_limit(value, limit):
    assert read_limit(value, default=100, highest=1000) == limit


@pytest.mark.parametrize("value", ["", "0", "1001", "-1", "+1", "1.0", "ten", "٣", "9" * 5000])
def test_bad_limit(value):
    with pytest.raises(InputError, match="limit is not a whole number from 1 to 1000"):
        read_limit(value, default=100, highest=1000)


@pytest.mark.parametrize(
    ("accept", "for_form", "for_json"),
    [
        ("", False, True),
        ("*/*", False, True),
        ("application/json", True, True),
        ("text/html", False, False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False, False),
        ("text/html;q=0.5, application/json", True, True),
        ("application/json;q=0.1, text/html", False, False),
        ("application/*", True, True),
        ("image/png", False, True),
        ("application/json;q=x, ;;,", False, True),
    ],
)
def test_preference(accept, for_form, for_json):
    assert (wants_json(accept, FORM), wants_json(accept, JSON)) == (for_form, for_json)


def test_a_long_accept_is_none_and_is_not_parsed(monkeypatch):
    longest = f"application/json,{'a/a,' * 60}"[:MAX_ACCEPT]
    assert wants_json(longest, FORM) is True
    monkeypatch.setattr("weather.input.parse_accept_header", None)
    assert wants_json(longest + ",", FORM) is False
    assert wants_json(f"text/html,{'a/a,' * 6000}", JSON) is True


def test_media_type():
    assert media_type("Application/JSON; charset=utf-8") == JSON
