"""The Redis client's connections, seen from a real Valkey."""

from concurrent.futures import ThreadPoolExecutor

from weather.redis_client import READERS, RedisClient

BURST = 10 * READERS


def test_a_burst_of_readers_shares_a_few_connections(settings, valkey, monkeypatch):
    monkeypatch.setattr("weather.redis_client.TIMEOUT", 10)  # seconds
    redis = RedisClient(settings)
    with ThreadPoolExecutor(BURST) as threads, valkey.client() as other:
        before = len(other.client_list())
        other.client_pause(200)  # milliseconds, in which nobody is answered
        burst = [threads.submit(redis.get, "key") for _ in range(BURST)]
        assert [answer.result() for answer in burst] == [None] * BURST
        assert len(other.client_list()) <= before + READERS
