"""Redis with short time limits: a cache that is down or frozen must not slow requests down."""

import threading
from typing import Any

import redis
from config import Settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from waiting import Breaker

TIMEOUT = 0.1  # seconds to connect, and to wait for an answer; a healthy Redis needs 1 ms
PAUSE = 1.0  # seconds without Redis after it failed


class RedisDownError(Exception):
    """Redis did not answer, now or a moment ago."""


class RedisClient:
    """Sends commands on a connection of the calling thread, at most one try each.

    A connection for each thread saves the pool's bookkeeping on every command (101 instead of
    137 us for a GET); a worker has some 60 threads, Redis takes 10,000 clients.
    """

    def __init__(self, settings: Settings) -> None:
        self._options: dict[str, Any] = {
            "host": settings.redis_host,
            "port": settings.redis_port,
            "ssl": settings.redis_ssl,
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # RESP3 would cost a round trip on each new connection
            "single_connection_client": True,
        }
        self._breaker = Breaker(PAUSE)
        self._thread = threading.local()
        # Counts failures. A thread whose connection is older than the last one opens a new
        # connection: after a restart of Redis one command fails, not one in each thread.
        self._generation = 0

    def execute(self, *command: str | int) -> Any:
        """Send one command and return the answer, as bytes, int or None.

        Raises RedisDownError, or redis.ResponseError where Redis answers with an error.
        """
        if not self._breaker.allows():
            raise RedisDownError("Redis failed a moment ago")
        try:
            answer = self._connection().execute_command(*command)
        except redis.ResponseError:
            self._breaker.succeeded()
            raise
        except (redis.RedisError, OSError) as error:
            self._generation += 1
            self._breaker.failed()
            raise RedisDownError(str(error)) from error
        self._breaker.succeeded()
        return answer

    def _connection(self) -> redis.Redis:
        mine = self._thread.__dict__
        if mine.get("generation") != self._generation:
            if "redis" in mine:
                mine.pop("redis").close()
            generation = self._generation
            mine["redis"] = redis.Redis(**self._options)
            mine["generation"] = generation
        return mine["redis"]
