"""What a client knows of the stack: all locations, and which answers are right."""

import json
import socket
import threading

import pytest

from users.api import ApiError, Client
from users.checker import Checker


def answer(location="Port Anna", average=12.34, records=5, **more):
    fields = {"location": location, "average_temperature": average, "records": records}
    return json.dumps(fields | more).encode()


def test_all_locations_are_found(stack, expected_averages):
    with Client(stack.url) as client:
        assert client.all_locations() == sorted(expected_averages)


def test_averages_are_what_the_stack_answers(stack, expected_averages):
    with Client(stack.url) as client:
        location = client.locations(limit=1)[0][0]
        average, records = client.averages([location])[location]
    assert records == expected_averages[location][1]
    assert average == pytest.approx(expected_averages[location][0], abs=0.0051)


def test_a_stack_that_does_not_answer_is_named():
    with Client("http://127.0.0.1:1") as client, pytest.raises(ApiError) as caught:
        client.all_locations()
    assert str(caught.value).startswith("http://127.0.0.1:1 does not answer: ")


def test_a_stack_behind_https_is_asked_by_https():
    received = []

    def listen(listener):
        connection, _ = listener.accept()
        with connection:
            received.append(connection.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ApiError):
            client.query("Port Anna")
        thread.join()
    assert received == [b"\x16"], "a TLS handshake begins so"


def test_a_status_other_than_200_is_named(stack):
    with Client(stack.url) as client, pytest.raises(ApiError, match="answers 400"):
        client.query(" ")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (answer(), ""),
        (answer(average=12.3449), ""),
        (answer(average=12.35), "wrong average"),
        (answer(records=6), "wrong number of records"),
        (answer(location="Port Bob"), "the answer is for another location"),
        (answer(average=None), "neither a temperature nor null with 0 records"),
        (answer(average="12.34"), "neither a temperature nor null with 0 records"),
        (answer(average=12.34, records=0), "neither a temperature nor null with 0 records"),
        (b"<html>", "not the agreed JSON"),
        (b"[]", "not the agreed JSON"),
        (b"{}", "not the agreed JSON"),
        (b"\xff", "not the agreed JSON"),
    ],
)
def test_problems(body, problem):
    checker = Checker({"Port Anna": (12.34, 5)})
    assert checker.problem("Port Anna", body) == problem
    assert checker.problem("Port Anna", body) == problem, "the second time, too"


def test_the_first_answer_is_what_later_ones_must_agree_with():
    checker = Checker({})
    assert checker.problem("Port Anna", answer(average=12.34)) == ""
    assert checker.problem("Port Anna", answer(average=12.34, more="field")) == ""
    assert checker.problem("Port Anna", answer(average=12.36)) == "wrong average"


def test_an_unknown_location_has_null_and_no_records():
    assert Checker({}).problem("Nowhere", answer("Nowhere", None, 0)) == ""
