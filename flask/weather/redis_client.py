"""Redis with short time limits: a cache that is down or frozen must not slow requests down."""

import logging
import socket
import threading
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from weather import metrics
from weather.resolve import resolve
from weather.settings import Settings
from weather.waiting import Breaker, WaitingLine

TIMEOUT = 0.25  # seconds to connect, and to wait for an answer; a healthy Redis needs 1 ms
# Seconds. A time limit that ends this late tells of this process, which had no CPU, not of Redis.
STALLED = 2 * TIMEOUT
PAUSE = 1.0  # seconds without Redis after it failed
# Of a process; other commands wait for a millisecond or two. A burst that opened a connection for
# each of its requests spent 1 ms of CPU on each, and kept 50 to 100 of them.
CONNECTIONS = 8

log = logging.getLogger("gunicorn.error")


class RedisDownError(Exception):
    """Redis did not answer, now or a moment ago."""


class Connection(redis.Connection):
    """A connection to Redis; redis-py by itself looks the name up without limit."""

    def _connect(self) -> socket.socket:
        name = self.host
        failure: OSError
        for address in resolve(name, monotonic() + TIMEOUT):
            try:
                self.host = address
                return super()._connect()
            except OSError as error:
                failure = error
            finally:
                self.host = name
        raise failure


class TlsConnection(redis.SSLConnection, Connection):
    """Connects as the class above, then checks the certificate against the name."""


class RedisClient:
    """Sends commands on idle connections of this process, at most one try each.

    A list of idle connections costs less than redis-py's own pool (101 instead of 137 us for a
    GET).
    """

    def __init__(self, settings: Settings) -> None:
        self._options: dict[str, Any] = {
            "host": settings.redis_host,
            "port": settings.redis_port,
            "password": settings.redis_password,  # sent once per connection, by AUTH
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # RESP3 would cost a round trip on each new connection
        }
        self._connection_class = TlsConnection if settings.redis_ssl else Connection
        self._breaker = Breaker(PAUSE)
        self._lock = threading.Lock()
        self._line = WaitingLine(self._lock)
        self._places = CONNECTIONS  # that are free
        self._idle: list[Connection] = []
        self._told_refusal = False

    def execute(self, *command: str | int, deadline: float) -> Any:
        """Send one command on one of CONNECTIONS; return the answer, as bytes, int or None.

        Raises RedisDownError, also where none comes free by the deadline, in seconds of
        time.monotonic(), or redis.ResponseError where Redis answers with an error.
        """
        self._enter(deadline)
        try:
            return self._execute(command)
        finally:
            self._leave()

    def _enter(self, deadline: float) -> None:
        with self._lock:
            if self._places:
                self._places -= 1
            elif not self._line.wait(deadline):
                raise RedisDownError("all connections to Redis are in use")

    def _leave(self) -> None:
        """The place goes to who is next in the line."""
        with self._lock:
            if not self._line.call_next():
                self._places += 1

    def _execute(self, command: tuple[str | int, ...]) -> Any:
        if not self._breaker.allows():
            raise RedisDownError("Redis failed a moment ago")
        idle = self._idle
        started = monotonic()
        try:
            connection = self._take(idle)
            connection.send_command(*command)
            answer = connection.read_response()
        except redis.ResponseError:
            self._succeeded(connection, idle)
            raise
        except (redis.RedisError, OSError) as error:
            # The others broke with this one if Redis restarted: one command fails, not each.
            self._idle = []
            metrics.REDIS_ERRORS.inc()
            if isinstance(error, redis.AuthenticationError):
                self._tell_refusal(error)
            if monotonic() - started < STALLED:
                self._breaker.failed()
                metrics.REDIS_BREAKER_OPEN.set(1)
            raise RedisDownError(str(error)) from error
        self._succeeded(connection, idle)
        return answer

    def _tell_refusal(self, error: redis.AuthenticationError) -> None:
        """Log once what is tried again every PAUSE seconds, as Redis may get the right password."""
        if not self._told_refusal:
            self._told_refusal = True
            address = "{host}:{port}".format(**self._options)
            message = "REDIS_PASSWORD: Redis at %s refuses it: %s; going on without Redis"
            log.error(message, address, error)

    def _take(self, idle: list[Connection]) -> Connection:
        try:
            return idle.pop()
        except IndexError:
            connection = self._connection_class(**self._options)
            connection.connect()
            return connection

    def _succeeded(self, connection: Connection, idle: list[Connection]) -> None:
        self._breaker.succeeded()
        metrics.REDIS_BREAKER_OPEN.set(0)
        idle.append(connection)
