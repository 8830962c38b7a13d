"""Redis with short time limits: a cache that is down or frozen must not slow requests down."""

from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from weather.settings import Settings
from weather.waiting import Breaker

TIMEOUT = 0.25  # seconds to connect, and to wait for an answer; a healthy Redis needs 1 ms
# Seconds. A time limit that ends this late tells of this process, which had no CPU, not of Redis.
STALLED = 2 * TIMEOUT
PAUSE = 1.0  # seconds without Redis after it failed
IDLE_CONNECTIONS = 64  # of a process; those of a burst (as many as it has requests) are closed


class RedisDownError(Exception):
    """Redis did not answer, now or a moment ago."""


class RedisClient:
    """Sends commands on idle connections of this process, at most one try each.

    A list of idle connections costs less than redis-py's own pool (101 instead of 137 us for a
    GET), and a command never waits for one: it opens its own.
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
        self._idle: list[redis.Redis] = []

    def execute(self, *command: str | int) -> Any:
        """Send one command and return the answer, as bytes, int or None.

        Raises RedisDownError, or redis.ResponseError where Redis answers with an error.
        """
        if not self._breaker.allows():
            raise RedisDownError("Redis failed a moment ago")
        idle = self._idle
        started = monotonic()
        try:
            client = self._take(idle)
            answer = client.execute_command(*command)
        except redis.ResponseError:
            self._succeeded(client, idle)
            raise
        except (redis.RedisError, OSError) as error:
            # The others broke with this one if Redis restarted: one command fails, not each.
            self._idle = []
            if monotonic() - started < STALLED:
                self._breaker.failed()
            raise RedisDownError(str(error)) from error
        self._succeeded(client, idle)
        return answer

    def _take(self, idle: list[redis.Redis]) -> redis.Redis:
        try:
            return idle.pop()
        except IndexError:
            return redis.Redis(**self._options)

    def _succeeded(self, client: redis.Redis, idle: list[redis.Redis]) -> None:
        self._breaker.succeeded()
        if len(idle) < IDLE_CONNECTIONS:
            idle.append(client)
        else:
            client.close()
