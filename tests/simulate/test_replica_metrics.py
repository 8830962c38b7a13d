"""The replicas' own numbers, between two looks at them."""

import pytest

from lab.replica_metrics import REASONS, TIERS, Replicas, parse, summary, tier_shares

EXPOSITION = """\
# TYPE weather_answers_total counter
weather_answers_total{tier="memory"} 5120.0
weather_answers_total{tier="redis"} 2.0
# TYPE weather_refused_total counter
weather_refused_total{reason="pool"} 3.0
# TYPE weather_pool_in_use_connections gauge
weather_pool_in_use_connections 4.0
# TYPE weather_connection_wait_seconds histogram
weather_connection_wait_seconds_bucket{le="+Inf"} 8.0
weather_connection_wait_seconds_count 8.0
weather_connection_wait_seconds_sum 0.5
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 0.07
"""


def test_an_exposition_is_read():
    numbers = {"memory": 5120, "redis": 2, "pool": 3, "in_use": 4, "waits": 8}
    assert parse(EXPOSITION) == numbers | {"waited_seconds": 0.5}


def test_every_number_is_one_that_a_replica_tells(stack):
    """Asked of a real one; a name that changes there is missed here."""
    replicas = Replicas([replica.url for replica in stack.replicas])
    (first, *_) = replicas.look()
    replicas.close()
    names = {"size", "in_use", "limit", "waiting", "flights_joined", "connections_opened"}
    names |= {"waits", "waited_seconds", "redis_errors", *TIERS, *REASONS}
    assert first.keys() == names


def reading(**numbers):
    return {"in_use": 0, "waiting": 0, "limit": 15, "size": 5, "memory": 0} | numbers


def test_counters_are_what_was_gained_and_gauges_what_was_seen():
    looks = [
        [reading(memory=100, waits=10, waited_seconds=1.0, in_use=2), reading(memory=7)],
        [reading(memory=160, waits=12, waited_seconds=1.0, in_use=9, waiting=3), reading(memory=7)],
        [reading(memory=220, waits=14, waited_seconds=1.2), reading(memory=17, pool=4)],
    ]
    found = summary(looks, 2.0)
    assert found["answers"] == dict.fromkeys(TIERS, 0) | {"memory": 130}
    assert found["refused"] == dict.fromkeys(REASONS, 0) | {"pool": 4}
    assert (found["waits"], found["wait_ms"]) == (4, pytest.approx(50))
    assert found["pool"]["in_use"] == {"mean": pytest.approx(11 / 3), "max": 9}
    assert (found["pool"]["waiting"]["max"], found["pool"]["limit"]["max"]) == (3, 30)


def test_a_replica_that_began_anew_counts_from_nothing():
    looks = [[reading(memory=100)], [reading(memory=110)], [reading(memory=4)]]
    assert summary(looks, 2.0)["answers"]["memory"] == 14


def test_a_replica_that_does_not_answer_is_said():
    looks = [[reading(memory=1), reading()], [None, reading()], [reading(memory=3), reading()]]
    found = summary(looks, 2.0)
    assert (found["unread"], found["looks"], found["answers"]["memory"]) == (1, 3, 2)
    assert found["pool"]["limit"]["mean"] == 30, "of the looks that reached both"
    assert summary([[None], [None]], 1.0)["pool"]["limit"] is None


def test_what_replicas_answered_is_shared_out_by_their_tiers():
    window = {"sent": 200, "tiers": {"edge": 50, "origin": 100, "refused": 50}}
    found = tier_shares({"window": window, "replicas": {"answers": {"memory": 66, "redis": 22}}})
    shares = {"edge": 25, "memory": 37.5, "redis": 12.5, "refused": 25}
    assert found == pytest.approx(shares)
    unread = tier_shares({"window": window, "replicas": {"answers": {"memory": 0}}})
    assert unread == {"edge": 25, "origin": 50, "refused": 25}
