"""The Redis client's connections, seen from a real Valkey."""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from weather.cache import Cache
from weather.queries import Average
from weather.redis_client import CONNECTIONS, RedisClient, RedisDownError

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
        burst = [threads.submit(client.execute, *command) for _ in range(BURST)]
        assert [one.result() for one in burst] == [answer] * BURST
        assert len(other.client_list()) <= before + CONNECTIONS


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
        client.execute("GET", "key")
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
        client.execute("GET", "key")
    assert caplog.messages[0].startswith("REDIS_PASSWORD: ")
