"""Answers in memory and Redis: never older than CACHE_EXPIRY, computed once for all who wait."""

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import redis

from weather import metrics
from weather.queries import Average
from weather.redis_client import RedisClient, RedisDownError
from weather.settings import Settings
from weather.waiting import Breaker, UnavailableError, deadline_from_now

PREFIX = "weather:avg:1:"  # 1 is the version of the value's format
JITTER = 0.1  # an answer's life is 0.9 to 1 x CACHE_EXPIRY: answers of one burst end apart
REFRESH_SHARE = 0.2  # the last part of CACHE_EXPIRY, in which a hot answer is computed anew
REFRESH_PAUSE = 3.0  # seconds without another try after that failed
# That a process keeps itself: 8 MB, and all 13,309 locations fit. Redis alone answers 0.58 times as
# many requests/s as bare Flask, with this in front of it 0.89 (benchmarks/results/serve.json).
MEMORY_ANSWERS = 20_000

# The header for each tier that an answer may come from.
X_CACHE = {
    "memory": "hit",
    "redis": "hit",
    "stale": "stale",
    "computed": "miss",
    "uncached": "bypass",
}

Compute = Callable[[str, float], Average]  # of a location, by a deadline
T = TypeVar("T")


class Answer(NamedTuple):
    """An average and the time, in seconds since 1970, until which it may be served."""

    average: Average
    expires: float


class Flights:
    """At most one computation of a key at a time in this process; the others wait for its result.

    Technique: golang.org/x/sync/singleflight.
    """

    def __init__(self) -> None:
        self._flights: dict[str, Future] = {}

    def run(self, key: str, compute: Callable[[], T], deadline: float) -> T:
        """Return ``compute()``, or the result of the same key's computation that is under way.

        Who joined one that failed tries once more: it may have had less time left. Raises what
        ``compute`` raises, and UnavailableError at the deadline.
        """
        flight = self._flights.get(key)
        if flight:
            with suppress(UnavailableError):
                return _result(flight, deadline)
        own = Future()
        flight = self._flights.setdefault(key, own)
        if flight is not own:
            return _result(flight, deadline)
        try:
            result = compute()
        except BaseException as error:
            del self._flights[key]
            own.set_exception(error)
            raise
        del self._flights[key]
        own.set_result(result)
        return result

    def is_running(self, key: str) -> bool:
        return key in self._flights


def _result(flight: Future, deadline: float) -> Any:
    metrics.FLIGHTS_JOINED.inc()
    try:
        return flight.result(max(0.0, deadline - monotonic()))
    except TimeoutError:
        message = "the same answer is being computed and takes long"
        raise UnavailableError(message, "time") from None


class Cache:
    """Looks answers up in memory and in Redis, and computes those that are in neither."""

    def __init__(self, settings: Settings) -> None:
        self._expiry = settings.cache_expiry
        self._refresh_before = settings.cache_expiry * REFRESH_SHARE
        self._redis = RedisClient(settings) if settings.cache else None
        self._memory: dict[str, Answer] = {}
        self._memory_answers = MEMORY_ANSWERS if settings.memory_cache else 0
        self._flights = Flights()
        self._refreshes = Flights()
        self._refresh_breaker = Breaker(REFRESH_PAUSE)

    def fetch(self, location: str, deadline: float, compute: Compute) -> tuple[Answer, str]:
        """Return the answer and the tier that it comes from, one of X_CACHE.

        "stale" is an answer near its end that another request is computing anew; it still is
        younger than CACHE_EXPIRY. Raises what ``compute`` raises.
        """
        if self._redis is None:
            return self._compute(location, deadline, compute), "uncached"
        answer = self._memory.get(location)
        if answer and self._is_young(answer):
            return answer, "memory"
        answer, tier = self._flights.run(
            location, lambda: self._look_up(location, deadline, compute), deadline
        )
        if tier in ("memory", "redis") and not self._is_young(answer):
            return self._refresh(location, deadline, compute, answer)
        return answer, tier

    def state(self) -> str:
        """up, down, or off where CACHE=false."""
        if self._redis is None:
            return "off"
        try:
            self._redis.execute("PING", deadline=deadline_from_now())
        except (RedisDownError, redis.ResponseError):
            return "down"
        return "up"

    def _look_up(self, location: str, deadline: float, compute: Compute) -> tuple[Answer, str]:
        """The answer that Redis has, or else a new one: two commands to Redis at most."""
        try:
            answer, tier = self._read(location, deadline), "redis"
        except RedisDownError:
            answer, tier = self._memory.get(location), "memory"
            if not answer or answer.expires <= time.time():
                answer, tier = self._compute(location, deadline, compute), "uncached"
        if answer is None:
            return self._compute_and_keep(location, deadline, compute), "computed"
        self._remember(location, answer)
        return answer, tier

    def _refresh(
        self, location: str, deadline: float, compute: Compute, old: Answer
    ) -> tuple[Answer, str]:
        """Compute anew unless somebody does already; a failure leaves the old answer."""
        if self._refreshes.is_running(location) or not self._refresh_breaker.allows():
            return old, "stale"
        try:
            answer = self._refreshes.run(
                location, lambda: self._compute_and_keep(location, deadline, compute), deadline
            )
        except UnavailableError:
            self._refresh_breaker.failed()
            return old, "stale"
        self._refresh_breaker.succeeded()
        return answer, "computed"

    def _is_young(self, answer: Answer) -> bool:
        """Whether it is too early to compute the answer anew."""
        return answer.expires - time.time() > self._refresh_before

    def _compute_and_keep(self, location: str, deadline: float, compute: Compute) -> Answer:
        answer = self._compute(location, deadline, compute)
        self._write(location, answer, deadline)
        self._remember(location, answer)
        return answer

    def _compute(self, location: str, deadline: float, compute: Compute) -> Answer:
        """A new answer, which is as old as the read's start.

        One without records ends at once, and nobody keeps it: anyone can make up names and push
        real answers out with them, while the index finds in 0.1 ms that a name does not exist.
        """
        start = time.time()
        average = compute(location, deadline)
        life = self._expiry * (1 - random.uniform(0, JITTER)) if average.records else 0
        return Answer(average, start + life)

    def _remember(self, location: str, answer: Answer) -> None:
        """Keep an answer in memory, in place of the oldest one where there is no room."""
        if not (answer.average.records and self._memory_answers):
            return
        self._memory.pop(location, None)
        if len(self._memory) >= self._memory_answers:
            self._memory.pop(next(iter(self._memory)))
        self._memory[location] = answer

    def _read(self, location: str, deadline: float) -> Answer | None:
        """What Redis has; None if it has nothing, or a value that is not one of ours."""
        try:
            value = self._redis.execute("GET", PREFIX + location, deadline=deadline)
        except redis.ResponseError:  # a key of another type
            return None
        return None if value is None else self._parse(value)

    def _parse(self, value: bytes) -> Answer | None:
        try:
            fields = json.loads(value)
            temperature, records = fields["average_temperature"], fields["records"]
            expires = fields["expires"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        numbers = type(temperature) is float and type(records) is int and type(expires) is float
        if not numbers or not -100 <= temperature <= 100 or records < 1:
            return None
        now = time.time()
        # The upper bound holds after CACHE_EXPIRY was lowered, and for a clock that is ahead.
        if not now < expires <= now + self._expiry:
            return None
        return Answer(Average(temperature, records), expires)

    def _write(self, location: str, answer: Answer, deadline: float) -> None:
        """Give Redis an answer; a failure costs only speed."""
        remaining_ms = int((answer.expires - time.time()) * 1000)
        if remaining_ms <= 0:
            return
        (temperature, records), expires = answer
        value = {"average_temperature": temperature, "records": records, "expires": expires}
        try:
            command = ("SET", PREFIX + location, json.dumps(value), "PX", remaining_ms)
            self._redis.execute(*command, deadline=deadline)
        except (RedisDownError, redis.ResponseError):
            return
