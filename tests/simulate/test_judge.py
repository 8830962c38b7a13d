"""Each rule that makes a run INVALID, and each service level, triggered once."""

import copy

import pytest

from lab.judge import EDGE_OFF, EDGE_ON, SERVICE_LEVELS, invalid, missed


def change(result, path, value):
    """A copy in which the field at ``path`` has another value."""
    changed = copy.deepcopy(result)
    *folders, last = path.split(".")
    place = changed
    for name in folders:
        place = place[name]
    place[last] = value
    return changed


def test_the_recorded_run_is_valid_and_keeps_its_service_level(recorded):
    assert invalid(recorded) == []
    assert missed(recorded, SERVICE_LEVELS) == []


WRONG = [{"error": "wrong answer: wrong average", "count": 3}]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("cpu.generator.mean", 90.5, "generator used 90 % CPU, more than 90 %"),
        ("window.fewest_workers", 0, "0 of 1 workers were left"),
        ("window.fewest_users", 299, "299 of 300 users were there"),
        ("window.seconds", 7.0, "7 s of 8 s were measured"),
        ("total.requests", 10_000, "the generator sent 10006 requests, nginx logged "),
        ("nginx.requests", 0, "requests, nginx logged 0"),
        ("errors", WRONG, "3 times: wrong answer: wrong average"),
        ("window.requests", 0, "no request was measured"),
    ],
)
def test_invalid(recorded, path, value, reason):
    reasons = invalid(change(recorded, path, value))
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_counts_may_be_half_a_percent_apart(recorded):
    total = recorded["total"]
    sent = total["requests"] + total["cut_off"]
    assert invalid(change(recorded, "nginx.requests", round(sent * 0.996))) == []
    assert invalid(change(recorded, "nginx.requests", round(sent * 0.99))) != []


def test_each_process_of_the_generator_is_looked_at(recorded):
    busy = change(recorded, "cpu.generator 2", {"mean": 95.0, "max": 100.0})
    assert invalid(busy) == ["generator 2 used 95 % CPU, more than 90 %"]


def test_other_errors_are_failures_but_the_run_counts(recorded):
    assert invalid(change(recorded, "errors", [{"error": "status 503", "count": 9}])) == []


@pytest.mark.parametrize(
    ("edge", "field", "value", "problem"),
    [
        (False, "p95_ms", 251, f"{EDGE_OFF.name}: p95 251 ms > 250 ms"),
        (False, "failures", 1, f"{EDGE_OFF.name}: 1 failures > 0"),
        (True, "p95_ms", 101, f"{EDGE_ON.name}: p95 101 ms > 100 ms"),
    ],
)
def test_missed_service_levels(recorded, edge, field, value, problem):
    result = change(change(recorded, "cell.edge", edge), f"window.{field}", value)
    assert missed(result, SERVICE_LEVELS) == [problem]


def test_an_open_loop_has_no_number_of_users_to_promise_anything_for(recorded):
    slow = change(change(recorded, "window.p95_ms", 9999), "cell.users", 0)
    assert missed(slow, SERVICE_LEVELS) == []


def test_without_the_pool_nothing_is_promised(recorded):
    slow = change(change(recorded, "window.p95_ms", 9999), "cell.pooling", False)
    assert missed(slow, SERVICE_LEVELS) == []
