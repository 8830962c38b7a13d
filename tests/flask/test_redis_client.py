"""The Redis client's connections, seen from a real Valkey."""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from polling import poll

from weather.cache import Cache
from weather.queries import Average
from weather.redis_client import CONNECTIONS, RedisClient, RedisDownError
from weather.waiting import deadline_from_now

BURST = 10 * CONNECTIONS
PASSWORD = "only-for-tests"


@pytest.mark.parametrize(
    ("command", "answer"), [(("GET", "key"), None), (("SET", "key", "value"), b"OK")]
)
def test_a_burst_shares_a_few_connections(settings, valkey, monkeypatch, command, answer):
    monkeypatch.setattr("weather.redis_client.TIMEOUT", 10)  # seconds
    client = RedisClient(settings)
    with ThreadPoolExecutor(BURST) as threads, valkey.client() as other:
        before = len(other.client_list())
        other.client_pause(200)  # milliseconds, in which nobody is answered
        burst = [
            threads.submit(client.execute, *command, deadline=deadline_from_now())
            for _ in range(BURST)
        ]
        assert [one.result() for one in burst] == [answer] * BURST
        assert len(other.client_list()) <= before + CONNECTIONS


def test_the_request_with_the_least_time_left_is_next(settings, valkey, monkeypatch):
    monkeypatch.setattr("weather.redis_client.TIMEOUT", 10)  # seconds
    client = RedisClient(settings)

    def run(*command, seconds=60):
        return threads.submit(client.execute, *command, deadline=monotonic() + seconds)

    with ThreadPoolExecutor(2 * CONNECTIONS) as threads, valkey.client() as other:
        busy = [run("BLPOP", f"never-{n}", 0) for n in range(CONNECTIONS)]
        poll(lambda: other.info("clients")["blocked_clients"] == CONNECTIONS)
        for number, seconds in enumerate((30, 10, 20), 1):
            run("RPUSH", "order", seconds, seconds=seconds)
            poll(lambda number=number: len(client._line) == number)
        other.rpush("never-0", "now")
        poll(lambda: other.llen("order") == 3)
        assert other.lrange("order", 0, -1) == [b"10", b"20", b"30"]
        for n in range(1, CONNECTIONS):
            other.rpush(f"never-{n}", "now")
        assert all(one.result() for one in busy)


def test_who_waits_for_a_connection_gives_up_at_the_deadline(settings, valkey, monkeypatch):
    monkeypatch.setattr("weather.redis_client.TIMEOUT", 10)  # seconds
    client = RedisClient(settings)
    with ThreadPoolExecutor(CONNECTIONS) as threads, valkey.client() as other:
        other.client_pause(200)  # milliseconds
        late = monotonic() + 10
        busy = [threads.submit(client.execute, "PING", deadline=late) for _ in range(CONNECTIONS)]
        poll(lambda: not client._places)
        with pytest.raises(RedisDownError, match="all connections to Redis are in use"):
            client.execute("PING", deadline=monotonic() + 0.01)
        assert all(one.result() for one in busy)
        assert client.execute("PING", deadline=late)
    assert (client._places, len(client._line)) == (CONNECTIONS, 0)


@pytest.fixture
def locked(valkey):
    """The server, with a password; the client has logged in."""
    with valkey.client() as client:
        client.config_set("requirepass", PASSWORD)
        client.config_resetstat()
        yield client
        client.config_set("requirepass", "")


def test_a_connection_sends_the_password_once(settings, locked):
    client = RedisClient(dataclasses.replace(settings, redis_password=PASSWORD))
    for _ in range(20):
        client.execute("GET", "key", deadline=deadline_from_now())
    calls = {name: line["calls"] for name, line in locked.info("commandstats").items()}
    assert (calls["cmdstat_auth"], calls["cmdstat_get"]) == (1, 20)


@pytest.mark.parametrize("password", ["not-this", None])
def test_a_wrong_password_is_one_line_and_answers_come_without_redis(
    settings, locked, password, caplog, monkeypatch
):
    monkeypatch.setattr("weather.redis_client.PAUSE", 0)  # seconds
    cache = Cache(dataclasses.replace(settings, redis_password=password, memory_cache=False))
    right = Average(12.34, 3)
    with caplog.at_level(logging.WARNING, "gunicorn.error"):
        for _ in range(3):
            answer, tier = cache.fetch("Portland", 0, lambda *_: right)
            assert (answer.average, tier) == (right, "uncached")
    [line] = caplog.messages
    assert line.startswith(f"REDIS_PASSWORD: Redis at 127.0.0.1:{settings.redis_port} refuses it: ")
    assert "not-this" not in line
    assert cache.state() == "down"
    assert locked.dbsize() == 0


def test_a_password_that_redis_does_not_have_is_told_too(settings, valkey, caplog):
    client = RedisClient(dataclasses.replace(settings, redis_password=PASSWORD))
    with pytest.raises(RedisDownError), caplog.at_level(logging.WARNING, "gunicorn.error"):
        client.execute("GET", "key", deadline=deadline_from_now())
    assert caplog.messages[0].startswith("REDIS_PASSWORD: ")
