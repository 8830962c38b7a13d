"""Answers in memory and Redis: never older than CACHE_EXPIRY, computed once for all who wait."""

import json
import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

import redis

from weather.queries import Average
from weather.redis_client import RedisClient, RedisDownError
from weather.settings import Settings
from weather.waiting import WAIT_LIMIT, UnavailableError

PREFIX = "weather:avg:1:"  # 1 is the version of the value's format
LOCK_PREFIX = "weather:lock:1:"
JITTER = 0.1  # an answer's life is 0.9 to 1 x CACHE_EXPIRY: answers of one burst end apart
REFRESH_SHARE = 0.2  # the last part of CACHE_EXPIRY, in which a hot answer is computed anew
# A lock outlives the slowest read (2 s) and the wait for a connection, no more: whoever holds it
# may have been killed.
LOCK_MS = 3000
POLL = 0.01  # seconds between two looks at what another replica computes
MEMORY_ANSWERS = 20_000  # answers that a process keeps itself: 8 MB, and all 13,309 locations fit

# Deletes the lock only if it still is the caller's: it may have expired and been taken by another.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"

T = TypeVar("T")


class Answer(NamedTuple):
    """An average and the time, in seconds since 1970, until which it may be served."""

    average: Average
    expires: float


class Memory:
    """Answers kept in this process, so that a hot one costs no trip to Redis.

    On 2 cores Redis alone answers 0.61 times as many requests/s as bare Flask, with this in front
    of it 0.83 times as many (benchmarks/results/serve.json).
    """

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def get(self, location: str) -> Answer | None:
        return self._answers.get(location)

    def put(self, location: str, answer: Answer) -> None:
        """Keep an answer, in place of the oldest one where there are MEMORY_ANSWERS."""
        self._answers.pop(location, None)
        if len(self._answers) >= MEMORY_ANSWERS:
            self._answers.pop(next(iter(self._answers)))
        self._answers[location] = answer


class Flights:
    """At most one computation of a key at a time in this process; the others wait for its result.

    Technique: golang.org/x/sync/singleflight.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Future] = {}

    def run(self, key: str, compute: Callable[[], T]) -> T:
        """Return ``compute()``, or the result of the same key's computation that is under way.

        Raises what ``compute`` raises, and UnavailableError when the other computation takes too
        long.
        """
        with self._lock:
            flight = self._flights.get(key)
            is_leader = flight is None
            if is_leader:
                flight = self._flights[key] = Future()
        if is_leader:
            return self._lead(key, flight, compute)
        try:
            return flight.result(WAIT_LIMIT)
        except TimeoutError:
            raise UnavailableError("the same answer is being computed and takes long") from None

    def is_running(self, key: str) -> bool:
        return key in self._flights

    def _lead(self, key: str, flight: Future, compute: Callable[[], T]) -> T:
        try:
            result = compute()
        except BaseException as error:
            del self._flights[key]
            flight.set_exception(error)
            raise
        del self._flights[key]
        flight.set_result(result)
        return result


class Cache:
    """Looks answers up in memory and in Redis, and computes those that are in neither."""

    def __init__(self, settings: Settings) -> None:
        self._expiry = settings.cache_expiry
        self._refresh_before = settings.cache_expiry * REFRESH_SHARE
        self._flights = Flights()
        self._redis = RedisClient(settings) if settings.cache else None
        self._memory = Memory() if settings.cache and settings.memory_cache else None

    def fetch(self, location: str, compute: Callable[[str], Average]) -> tuple[Answer, str]:
        """Return the answer and where it comes from: hit, stale, miss or bypass.

        "stale" is an answer near its end that another request is computing anew; it still is
        younger than CACHE_EXPIRY. Raises what ``compute`` raises.
        """
        if self._redis is None:
            return self._bypass(location, compute)
        if answer := self._young_in_memory(location):
            return answer, "hit"
        answer, source = self._fetch_from_redis(location, compute)
        self._remember(location, answer)
        return answer, source

    def _fetch_from_redis(
        self, location: str, compute: Callable[[str], Average]
    ) -> tuple[Answer, str]:
        """As fetch(); a hit costs one Redis command."""
        try:
            answer = self._look_up(location)
        except RedisDownError:
            return self._flights.run(location, lambda: self._without_redis(location, compute))
        if answer is None:
            return self._flights.run(location, lambda: self._miss(location, compute))
        if self._is_young(answer):
            return answer, "hit"
        return self._refresh(location, compute, answer)

    def _without_redis(
        self, location: str, compute: Callable[[str], Average]
    ) -> tuple[Answer, str]:
        """Compute, unless another request did while this one waited for a Redis that is down."""
        if answer := self._young_in_memory(location):
            return answer, "hit"
        answer, source = self._bypass(location, compute)
        self._remember(location, answer)  # before the flight ends: whoever comes then finds it
        return answer, source

    def _young_in_memory(self, location: str) -> Answer | None:
        answer = self._memory.get(location) if self._memory else None
        return answer if answer and self._is_young(answer) else None

    def _remember(self, location: str, answer: Answer) -> None:
        if self._memory and answer.average.records:  # as in Redis, see _compute_and_store
            self._memory.put(location, answer)

    def _is_young(self, answer: Answer) -> bool:
        """Whether it is too early to compute the answer anew."""
        return answer.expires - time.time() > self._refresh_before

    def state(self) -> str:
        """up, down, or off where CACHE=false."""
        if self._redis is None:
            return "off"
        try:
            self._redis.execute("PING")
        except (RedisDownError, redis.ResponseError):
            return "down"
        return "up"

    def _bypass(self, location: str, compute: Callable[[str], Average]) -> tuple[Answer, str]:
        return self._compute(location, compute), "bypass"

    def _compute(self, location: str, compute: Callable[[str], Average]) -> Answer:
        start = time.time()  # the answer is as old as the read's start
        return Answer(compute(location), start + self._expiry)

    def _miss(self, location: str, compute: Callable[[str], Average]) -> tuple[Answer, str]:
        """Compute and store, or take over what another replica computes meanwhile."""
        lock = None
        try:
            give_up = time.monotonic() + WAIT_LIMIT
            while (lock := self._lock(location)) is None and time.monotonic() < give_up:
                time.sleep(POLL)
                if answer := self._look_up(location):
                    return answer, "hit"
            # Between the first look and the lock another replica may have come and gone.
            answer = self._look_up(location)
        except RedisDownError:
            answer = None
        try:
            if answer:
                return answer, "hit"
            return self._compute_and_store(location, compute), "miss"
        finally:
            self._unlock(location, lock)

    def _refresh(
        self, location: str, compute: Callable[[str], Average], answer: Answer
    ) -> tuple[Answer, str]:
        """Compute anew unless somebody does already; a failure leaves the old answer."""
        if self._flights.is_running(location):
            return answer, "stale"

        def compute_locked() -> tuple[Answer, str]:
            try:
                lock = self._lock(location)
            except RedisDownError:
                lock = None
            if lock is None:
                return answer, "stale"
            # Released on success only: while PostgreSQL is down, one request in LOCK_MS tries.
            fresh = self._compute_and_store(location, compute)
            self._unlock(location, lock)
            return fresh, "miss"

        try:
            return self._flights.run(location, compute_locked)
        except UnavailableError:
            return answer, "stale"

    def _look_up(self, location: str) -> Answer | None:
        """The stored answer; None if there is none or its value is not one of ours."""
        try:
            value = self._redis.execute("GET", PREFIX + location)
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

    def _compute_and_store(self, location: str, compute: Callable[[str], Average]) -> Answer:
        answer = self._compute(location, compute)
        # Answers without records are not stored: anyone can make up names and fill Redis with
        # them, while the index finds in 0.1 ms that a name does not exist.
        if answer.average.records == 0:
            return answer
        answer = answer._replace(expires=answer.expires - self._expiry * random.uniform(0, JITTER))
        remaining_ms = int((answer.expires - time.time()) * 1000)
        if remaining_ms > 0:
            value = {
                "average_temperature": answer.average.temperature,
                "records": answer.average.records,
                "expires": answer.expires,
            }
            self._try("SET", PREFIX + location, json.dumps(value), "PX", remaining_ms)
        return answer

    def _lock(self, location: str) -> str | None:
        """Take the lock that all replicas share; None if another has it. Raises RedisDownError."""
        token = secrets.token_hex(8)
        try:
            done = self._redis.execute("SET", LOCK_PREFIX + location, token, "NX", "PX", LOCK_MS)
        except redis.ResponseError as error:  # out of memory, read-only: go on without the lock
            raise RedisDownError(str(error)) from error
        return token if done else None

    def _unlock(self, location: str, lock: str | None) -> None:
        if lock:
            self._try("EVAL", _RELEASE, 1, LOCK_PREFIX + location, lock)

    def _try(self, *command: str | int) -> None:
        """Send a command whose failure costs only speed."""
        try:
            self._redis.execute(*command)
        except (RedisDownError, redis.ResponseError):
            return
