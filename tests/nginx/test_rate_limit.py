"""RATE_LIMIT: who asks too often gets 429, nobody else does, and no header changes who it is."""

import itertools
import socket
import time
from contextlib import ExitStack

import pytest
from polling import poll

from .conftest import Nginx

RATE = 2  # requests/s
BURST = 10  # requests that may come at once

addresses = (f"127.0.1.{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def limited(upstreams):
    with Nginx(upstreams, rate_limit=str(RATE)) as nginx:
        yield nginx


@pytest.fixture
def address():
    """An address that no other test asks from."""
    return next(addresses)


def flood(nginx, address, count=60, **options):
    """Answers by status; fails where more were served than the limit allows."""
    start = time.monotonic()
    answers = [nginx.ask(source=address, **options) for _ in range(count)]
    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(served) + len(refused) == count
    assert len(served) <= 1 + BURST + RATE * (time.monotonic() - start) + 1
    return served, refused


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("application/json", b'{"error": "Too many requests from your address.'),
        ("text/html", b"<!doctype html>"),
    ],
)
def test_requests_above_the_limit_are_429_with_a_time_to_come_back(limited, address, accept, text):
    served, refused = flood(limited, address, headers={"Accept": accept})
    assert len(served) > BURST
    assert refused
    for answer in refused:
        assert answer.headers.get_all("Retry-After") == ["1"]
        assert answer.headers["Content-Type"] == accept
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.body.startswith(text)
    poll(lambda: limited.ask(source=address).status == 200)


def test_other_addresses_are_not_limited(limited, address):
    assert flood(limited, address)[1]
    assert limited.ask(source=next(addresses)).status == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_no_header_makes_a_client_someone_else(limited, address, name):
    flood(limited, address)
    start = time.monotonic()
    answers = [
        limited.ask(source=address, headers={name: f"10.0.0.{number}"}) for number in range(60)
    ]
    served = sum(answer.status == 200 for answer in answers)
    assert served <= RATE * (time.monotonic() - start) + 1


def test_nginx_own_health_is_never_limited(limited, address):
    answers = {limited.ask(path="/nginx-health", source=address).status for _ in range(60)}
    assert answers == {200}


def test_a_flood_of_health_checks_is_limited_like_any_other(limited, address):
    assert flood(limited, address, path="/health-check")[1]


def slow_body(nginx, address):
    """A client whose body does not come, and the status with which nginx waits or refuses."""
    client = socket.create_connection(("127.0.0.1", nginx.port), 10, source_address=(address, 0))
    client.sendall(
        b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    return client, int(client.recv(100).split()[1])


def test_one_address_holds_a_few_slow_bodies_only(limited, address):
    with ExitStack() as exits:
        statuses = []
        for _ in range(BURST + 1):  # as many as the rate alone lets in
            client, status = slow_body(limited, address)
            exits.enter_context(client)
            statuses.append(status)
        assert statuses == [100] * BURST + [429]
        assert limited.ask(source=next(addresses)).status == 200
    poll(lambda: limited.ask(source=address).status == 200)


def test_without_a_limit_everyone_is_served(balancer, address):
    assert {balancer.ask(source=address).status for _ in range(60)} == {200}


def test_the_edge_cache_does_not_serve_around_it(upstreams, address):
    with Nginx(upstreams, edge_cache="on", rate_limit=str(RATE)) as nginx:
        served, refused = flood(nginx, address, headers={"X-Answer": "x-accel-expires=60"})
    assert "hit" in {answer.headers["X-Edge-Cache"] for answer in served}
    assert refused
