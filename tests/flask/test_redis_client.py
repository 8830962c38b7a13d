"""The Redis client's connections, seen from a real Valkey."""

from concurrent.futures import ThreadPoolExecutor

from polling import poll

from weather.redis_client import IDLE_CONNECTIONS, RedisClient

BURST = IDLE_CONNECTIONS + 30


def test_a_burst_leaves_no_more_than_the_idle_connections(settings, valkey, monkeypatch):
    monkeypatch.setattr(
        "weather.redis_client.TIMEOUT", 10
    )  # seconds: all of them wait at one moment
    redis = RedisClient(settings)
    with ThreadPoolExecutor(BURST) as threads, valkey.client() as other:

        def connections():
            return len(other.client_list())

        before = connections()
        burst = [threads.submit(redis.execute, "BLPOP", "answers", 10) for _ in range(BURST)]
        poll(lambda: connections() == before + BURST)
        other.rpush("answers", *range(BURST))
        assert all(answer.result() for answer in burst)
        poll(lambda: connections() == before + IDLE_CONNECTIONS)
        assert redis.execute("PING")  # on one of them
        assert connections() == before + IDLE_CONNECTIONS
