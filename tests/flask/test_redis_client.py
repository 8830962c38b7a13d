"""The Redis client's connections, seen from a real Valkey."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from weather.redis_client import CONNECTIONS, RedisClient

BURST = 10 * CONNECTIONS


@pytest.mark.parametrize(
    ("command", "answer"), [(("GET", "key"), None), (("SET", "key", "value"), b"OK")]
)
def test_a_burst_shares_a_few_connections(settings, valkey, monkeypatch, command, answer):
    monkeypatch.setattr("weather.redis_client.TIMEOUT", 10)  # seconds
    redis = RedisClient(settings)
    with ThreadPoolExecutor(BURST) as threads, valkey.client() as other:
        before = len(other.client_list())
        other.client_pause(200)  # milliseconds, in which nobody is answered
        burst = [threads.submit(redis.execute, *command) for _ in range(BURST)]
        assert [one.result() for one in burst] == [answer] * BURST
        assert len(other.client_list()) <= before + CONNECTIONS
