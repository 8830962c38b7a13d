"""The cache against a real Valkey: what it stores, when it computes, and what failures cost."""

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from polling import poll

from weather.cache import PREFIX, X_CACHE, Cache
from weather.queries import Average
from weather.waiting import UnavailableError

KEY = PREFIX + "Portland"
WARM = Average(12.34, 750)


class Source:
    """Stands for PostgreSQL: counts its reads, and may be slow or down."""

    def __init__(self, answer=WARM):
        self.answer = answer
        self.reads = 0
        self.is_down = False
        self.failing = set()  # numbers of reads
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, location, deadline):
        self.reads += 1
        number = self.reads
        self.may_answer.wait(10)
        if self.is_down or number in self.failing:
            raise UnavailableError("down")
        return self.answer


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def client(valkey):
    with valkey.client() as client:
        yield client


@pytest.fixture
def settings(settings):
    """Redis alone: most tests look at what it is asked; those of the memory say so."""
    return dataclasses.replace(settings, memory_cache=False)


@pytest.fixture
def cache(settings, valkey):
    return Cache(settings)


@pytest.fixture
def memory_cache(settings, valkey):
    return Cache(dataclasses.replace(settings, memory_cache=True))


def deadline(seconds=10.0):
    return monotonic() + seconds


def state_of(cache, source):
    answer, tier = cache.fetch("Portland", deadline(), source)
    assert answer.average == WARM
    return X_CACHE[tier]


def age(client, seconds):
    """Make the stored answer as old as if the given time had passed."""
    value = json.loads(client.get(KEY))
    value["expires"] -= seconds
    client.set(KEY, json.dumps(value), keepttl=True)


def test_miss_then_hit(cache, source):
    assert state_of(cache, source) == "miss"
    assert state_of(cache, source) == "hit"
    assert source.reads == 1


def test_what_is_stored(cache, source, client, settings):
    before = time.time()
    answer, _ = cache.fetch("Portland", deadline(), source)
    value = json.loads(client.get(KEY))
    assert value == {
        "average_temperature": 12.34,
        "records": 750,
        "expires": pytest.approx(answer.expires),
    }
    assert before + 0.9 * settings.cache_expiry <= answer.expires <= before + settings.cache_expiry
    assert client.pttl(KEY) <= (answer.expires - before) * 1000
    assert client.keys() == [KEY.encode()]


def test_a_hit_is_one_command(cache, source, client):
    cache.fetch("Portland", deadline(), source)
    cache.fetch("Portland", deadline(), source)
    before = client.info("commandstats")
    for _ in range(10):
        assert state_of(cache, source) == "hit"
    assert commands(client, before) == {"cmdstat_get": 10}


def test_a_miss_is_two_commands(cache, source, client):
    before = client.info("commandstats")
    assert state_of(cache, source) == "miss"
    assert commands(client, before) == {"cmdstat_get": 1, "cmdstat_set": 1}


def commands(client, before):
    """What Redis was asked since then: how often each command."""
    after = client.info("commandstats")
    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    asked = ("cmdstat_get", "cmdstat_set", "cmdstat_eval", "cmdstat_del")
    return {name: calls[name] for name in asked if calls.get(name)}


def test_lives_end_at_different_times(cache, source):
    lives = {
        round(cache.fetch(f"Town {number}", deadline(), source)[0].expires, 1)
        for number in range(20)
    }
    assert len(lives) > 5


def test_expiry_is_honoured(settings, valkey, source):
    cache = Cache(dataclasses.replace(settings, cache_expiry=1))
    first, tier = cache.fetch("Portland", deadline(), source)
    assert tier == "computed"
    source.answer = Average(1.0, 1)
    poll(lambda: cache.fetch("Portland", deadline(), source)[0].average == source.answer)
    assert time.time() <= first.expires + 0.2


def test_an_answer_past_its_end_is_a_miss(cache, source, client, settings):
    cache.fetch("Portland", deadline(), source)
    age(client, settings.cache_expiry)
    assert state_of(cache, source) == "miss"


def test_a_lowered_expiry_holds_for_what_is_stored(settings, cache, source):
    cache.fetch("Portland", deadline(), source)
    impatient = Cache(dataclasses.replace(settings, cache_expiry=10))
    assert state_of(impatient, source) == "miss"


def test_cache_off(settings, valkey, source, client):
    cache = Cache(dataclasses.replace(settings, cache=False))
    assert [state_of(cache, source) for _ in range(3)] == ["bypass"] * 3
    assert source.reads == 3
    assert client.dbsize() == 0
    assert cache.state() == "off"


def test_near_its_end_one_computes_and_the_others_get_the_old_answer(cache, source, client):
    cache.fetch("Portland", deadline(), source)
    age(client, 250)
    source.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        refresh = threads.submit(state_of, cache, source)
        poll(lambda: source.reads == 2)
        assert [state_of(cache, source) for _ in range(5)] == ["stale"] * 5
        source.may_answer.set()
        assert refresh.result(5) == "miss"
    assert state_of(cache, source) == "hit"
    assert source.reads == 2


def test_near_its_end_what_another_replica_computed_is_taken(cache, settings, source, client):
    cache.fetch("Portland", deadline(), source)
    age(client, 250)
    assert state_of(Cache(settings), source) == "miss"
    assert state_of(cache, source) == "hit"
    assert source.reads == 2


def test_a_failed_refresh_leaves_the_old_answer(cache, source, client):
    cache.fetch("Portland", deadline(), source)
    age(client, 250)
    source.is_down = True
    assert [state_of(cache, source) for _ in range(5)] == ["stale"] * 5
    assert source.reads == 2  # after a failure nobody tries for a while


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "{",
        "null",
        "5",
        "[12.34, 750, 1]",
        '{"average_temperature": 12.34}',
        '{"average_temperature": "12.34", "records": 750, "expires": LATER}',
        '{"average_temperature": NaN, "records": 750, "expires": LATER}',
        '{"average_temperature": 1e9, "records": 750, "expires": LATER}',
        '{"average_temperature": 12.34, "records": true, "expires": LATER}',
        '{"average_temperature": 12.34, "records": -1, "expires": LATER}',
        '{"average_temperature": 12.34, "records": 750, "expires": "LATER"}',
        '{"average_temperature": 12.34, "records": 750, "expires": Infinity}',
        '{"average_temperature": 12.34, "records": 750, "expires": LATER',
        b"\xff\x80",
        "[" * 100_000,
    ],
)
def test_a_poisoned_value_is_a_miss(cache, source, client, value):
    if isinstance(value, str):
        value = value.replace("LATER", str(time.time() + 100))
    client.set(KEY, value)
    assert state_of(cache, source) == "miss"
    assert state_of(cache, source) == "hit"


def test_a_key_of_another_type_is_a_miss(cache, source, client):
    client.rpush(KEY, "a", "b")
    assert state_of(cache, source) == "miss"
    assert state_of(cache, source) == "hit"


def test_full_memory_costs_only_the_cache(cache, source, client):
    policy, limit = client.config_get("maxmemory-policy"), client.config_get("maxmemory")
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    try:
        assert [state_of(cache, source) for _ in range(3)] == ["miss"] * 3
    finally:
        client.config_set("maxmemory", limit["maxmemory"])
        client.config_set("maxmemory-policy", policy["maxmemory-policy"])
    assert state_of(cache, source) == "miss"
    assert state_of(cache, source) == "hit"


def test_unknown_locations_are_not_stored(cache, client):
    nothing = Source(Average(None, 0))
    for number in range(20):
        answer, tier = cache.fetch(f"Nowhere {number}", deadline(), nothing)
        assert (answer.average, tier) == ((None, 0), "computed")
    assert client.dbsize() == 0


@pytest.fixture
def patient(monkeypatch):
    """A long time limit: so many threads share one interpreter that they wait for each other."""
    monkeypatch.setattr("weather.redis_client.TIMEOUT", 10)


def test_one_flight_for_100_threads(patient, cache, source):
    barrier = threading.Barrier(100)

    def ask(_):
        barrier.wait()
        return state_of(cache, source)

    with ThreadPoolExecutor(100) as threads:
        states = list(threads.map(ask, range(100)))
    assert source.reads == 1
    assert set(states) <= {"miss", "hit"}


def test_one_flight_in_each_replica(patient, settings, valkey, source):
    replicas = [Cache(settings) for _ in range(3)]
    barrier = threading.Barrier(60)

    def ask(number):
        barrier.wait()
        return state_of(replicas[number % 3], source)

    with ThreadPoolExecutor(60) as threads:
        list(threads.map(ask, range(60)))
    assert source.reads <= 3


def test_waiting_for_a_flight_is_bounded(cache, source):
    source.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(state_of, cache, source)
        poll(lambda: source.reads == 1)
        with pytest.raises(UnavailableError, match="is being computed"):
            cache.fetch("Portland", deadline(0.05), source)
        source.may_answer.set()
        assert slow.result(5) == "miss"


def test_who_joined_a_computation_that_failed_asks_again(cache, source):
    """The one who computes may have had less time left than who waits for the result."""
    source.failing = {1}
    source.may_answer.clear()
    asking = []

    def ask(_):
        asking.append(1)
        return state_of(cache, source)

    with ThreadPoolExecutor(51) as threads:
        failing = threads.submit(ask, 0)
        poll(lambda: source.reads == 1)
        waiting = threads.map(ask, range(50))
        poll(lambda: len(asking) == 51)
        source.may_answer.set()
        with pytest.raises(UnavailableError):
            failing.result(5)
        assert set(waiting) <= {"miss", "hit"}
    assert source.reads == 2


def test_without_redis_and_postgresql_memory_is_used_to_the_end(
    settings, source, valkey, monkeypatch
):
    monkeypatch.setattr("weather.cache.REFRESH_SHARE", 1)  # an answer is near its end at once
    cache = Cache(dataclasses.replace(settings, memory_cache=True))
    state_of(cache, source)
    valkey.kill()
    source.is_down = True
    assert [state_of(cache, source) for _ in range(5)] == ["stale"] * 5


def test_errors_reach_all_who_wait_and_are_not_kept(cache, source, client):
    source.is_down = True
    with pytest.raises(UnavailableError):
        cache.fetch("Portland", deadline(), source)
    assert client.dbsize() == 0
    source.is_down = False
    assert state_of(cache, source) == "miss"


def test_redis_down_is_a_bypass(cache, source, valkey):
    valkey.kill()
    assert [state_of(cache, source) for _ in range(100)] == ["bypass"] * 100
    assert cache.state() == "down"


def test_hits_again_after_redis_is_back(cache, source, valkey):
    cache.fetch("Portland", deadline(), source)
    valkey.kill()
    assert state_of(cache, source) == "bypass"
    valkey.start()
    poll(lambda: state_of(cache, source) == "hit", seconds=3)


def test_a_restart_of_redis_fails_one_command_not_one_per_thread(cache, source, valkey):
    with ThreadPoolExecutor(20) as threads:
        barrier = threading.Barrier(20)

        def ask(_):
            barrier.wait()
            return state_of(cache, source)

        list(threads.map(ask, range(20)))
        valkey.kill()
        valkey.start()
        list(threads.map(ask, range(20)))
        poll(lambda: state_of(cache, source) != "bypass", seconds=3)
        assert set(threads.map(ask, range(20))) == {"hit"}


def test_a_frozen_redis_is_a_bypass_and_hardly_anybody_waits_for_it(
    cache, source, valkey, redis_connections
):
    cache.fetch("Portland", deadline(), source)
    valkey.freeze()
    try:
        assert [state_of(cache, source) for _ in range(20)] == ["bypass"] * 20
        assert len(redis_connections) < 10  # each who waited took a new one
    finally:
        valkey.thaw()
    poll(lambda: state_of(cache, source) == "hit", seconds=3)


def test_redis_failing_within_a_flight(cache, source, valkey):
    source.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        flight = threads.submit(state_of, cache, source)
        poll(lambda: source.reads == 1)
        valkey.kill()
        source.may_answer.set()
        assert flight.result(5) == "miss"


def test_memory_answers_without_redis(memory_cache, source, valkey):
    assert state_of(memory_cache, source) == "miss"
    valkey.kill()
    assert [state_of(memory_cache, source) for _ in range(100)] == ["hit"] * 100
    assert source.reads == 1


def test_memory_takes_over_what_redis_has(cache, memory_cache, source, valkey):
    state_of(cache, source)
    assert state_of(memory_cache, source) == "hit"
    valkey.kill()
    assert state_of(memory_cache, source) == "hit"


def test_without_redis_one_answer_serves_the_next_requests(memory_cache, source, valkey):
    valkey.kill()
    assert state_of(memory_cache, source) == "bypass"
    assert [state_of(memory_cache, source) for _ in range(100)] == ["hit"] * 100
    assert source.reads == 1


def test_one_read_for_all_who_waited_for_a_frozen_redis(memory_cache, source, valkey):
    valkey.freeze()
    try:
        with ThreadPoolExecutor(100) as threads:
            states = list(threads.map(lambda _: state_of(memory_cache, source), range(100)))
    finally:
        valkey.thaw()
    assert source.reads == 1
    assert set(states) <= {"bypass", "hit"}


def test_memory_keeps_the_end_that_redis_knows(cache, memory_cache, source, client):
    state_of(cache, source)
    end = json.loads(client.get(KEY))["expires"]
    for _ in range(2):
        answer, _ = memory_cache.fetch("Portland", deadline(), source)
        assert answer.expires == end


def test_memory_leaves_an_answer_near_its_end_to_redis(settings, valkey, source, client):
    cache = Cache(dataclasses.replace(settings, memory_cache=True, cache_expiry=2))
    assert state_of(cache, source) == "miss"
    # As if another replica had computed it after 1 s; memory asks Redis again after 1.4 to 1.6 s.
    fresh = {"average_temperature": 20.0, "records": 750, "expires": time.time() + 3}
    client.set(KEY, json.dumps(fresh))
    poll(
        lambda: cache.fetch("Portland", deadline(), source)[0].average.temperature == 20.0,
        seconds=3,
    )
    assert source.reads == 1


def test_memory_has_a_limit(settings, source, valkey, monkeypatch):
    monkeypatch.setattr("weather.cache.MEMORY_ANSWERS", 2)
    memory_cache = Cache(dataclasses.replace(settings, memory_cache=True))
    for location in ("A", "B", "C"):
        memory_cache.fetch(location, deadline(), source)
    valkey.kill()
    tiers = [memory_cache.fetch(location, deadline(), source)[1] for location in ("B", "C", "A")]
    assert tiers == ["memory", "memory", "uncached"]


def test_memory_forgets_answers_without_records(memory_cache, valkey):
    source = Source(Average(None, 0))
    for _ in range(2):
        memory_cache.fetch("Nowhere", deadline(), source)
    assert source.reads == 2


def test_cache_false_keeps_nothing_in_memory(settings, source):
    cache = Cache(dataclasses.replace(settings, cache=False, memory_cache=True))
    assert [state_of(cache, source) for _ in range(2)] == ["bypass"] * 2
    assert source.reads == 2
