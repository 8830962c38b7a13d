"""Each rule that makes a cell INVALID, each flag, and the service level, triggered once."""

import copy

import pytest

from lab.judge import flags, generator_limits, hopeless, invalid, missed, problems, verdict

SUMMARY = {
    "seconds": 10.0,
    "sent": 2000,
    "good": 2000,
    "good_share": 1.0,
    "failures": {},
    "failed": 0,
    "p95_ms": 12.0,
    "fewest_users": 300,
    "fewest_workers": 1,
}
CELL = {
    "users": 300,
    "rate": 0,
    "start": "warm",
    "window": SUMMARY,
    "phases": {name: dict(SUMMARY) for name in ("arrival", "warm-up", "window")},
    "halves_apart": 0.4,
    "cpu": {"generator": {"mean": 30.0, "max": 40.0}, "flask": {"mean": 95.0, "max": 99.0}},
    "machine_load": {"idle_mean": 40.0, "idle_min": 30.0, "steal_mean": 1.0},
    "nginx": {"requests": 6000, "sent": 6000, "network": 0},
    "replicas": {"unread": 0},
    "flags": [],
    "invalid": [],
}
OPEN_LOOP = {"rate": 200, "users": 0}
IN_TIME = {"answered_per_second": 199.0, "send_lag_p99_ms": 0.4, "fewest_users": 0}


def change(result, path, value):
    """A copy in which the field at ``path`` has another value."""
    changed = copy.deepcopy(result)
    *folders, last = path.split(".")
    place = changed
    for name in folders:
        place = place[name]
    place[last] = value
    return changed


def open_loop(**window):
    return CELL | OPEN_LOOP | {"window": SUMMARY | IN_TIME | window}


def test_a_good_cell():
    assert invalid(CELL, processes=1, seconds=10) == []
    assert flags(CELL) == []
    assert verdict(CELL) == "kept"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("cpu.generator.mean", 90.6, "generator used 91 % CPU, more than 90 %"),
        ("cpu.generator 2", {"mean": 95.0}, "generator 2 used 95 % CPU, more than 90 %"),
        ("window.fewest_workers", 0, "0 of 1 workers were left"),
        ("window.fewest_users", 299, "299 of 300 users were there"),
        ("window.seconds", 8.0, "8 s of 10 s were measured"),
        ("nginx.requests", 5960, "the generator sent 6000 requests, nginx logged 5960"),
        ("nginx.sent", 5960, "the generator sent 5960 requests, nginx logged 6000"),
        ("phases.arrival.failures", {"wrong": 3, "nginx": 9}, "3 wrong answers"),
        ("window.sent", 0, "no request was measured"),
    ],
)
def test_invalid(path, value, reason):
    assert invalid(change(CELL, path, value), processes=1, seconds=10) == [reason]


def test_counts_may_be_half_a_percent_apart_and_an_open_loop_has_one_worker():
    assert invalid(change(CELL, "nginx.requests", 5975), processes=1, seconds=10) == []
    lost = CELL["nginx"] | {"requests": 5960, "network": 10}
    assert invalid(CELL | {"nginx": lost}, processes=1, seconds=10) == []
    assert invalid(open_loop(), processes=2, seconds=10) == []
    assert invalid(CELL, processes=2, seconds=10) == ["1 of 2 workers were left"]


def test_where_nobody_read_nginx_its_log_is_not_compared():
    assert invalid(CELL | {"nginx": None}, processes=1, seconds=10) == []


def test_only_the_generator_may_not_use_its_core_up():
    assert generator_limits(CELL["cpu"]) == []
    assert generator_limits(CELL["cpu"], of="max") == []
    peak = CELL["cpu"] | {"generator 2": {"mean": 40.0, "max": 97.0}}
    assert generator_limits(peak) == []
    assert generator_limits(peak, of="max") == ["generator 2 used 97 % CPU, more than 90 %"]


@pytest.mark.parametrize(
    ("path", "value", "flag"),
    [
        (
            "machine_load.idle_mean",
            4.9,
            "SATURATED: 4.9 % of the cores idle, its times are not a result",
        ),
        (
            "halves_apart",
            2.1,
            "UNSTEADY: a tier's share moved by 2.1 percentage points within the window",
        ),
        (
            "replicas.unread",
            2,
            "UNREAD: 2 times a replica did not tell its metrics within 1 s",
        ),
    ],
)
def test_flags(path, value, flag):
    assert flags(change(CELL, path, value)) == [flag]


def test_a_rate_that_is_not_kept_is_flagged():
    assert flags(open_loop()) == []
    busy = change(open_loop(), "machine_load.idle_mean", 2.0)
    assert flags(busy) == ["SATURATED: 2.0 % of the cores idle, its times are not a result"]
    slow = open_loop(answered_per_second=197.0)
    assert flags(slow) == ["UNSUSTAINED: 197 of 200 requests/s were answered"]
    late = open_loop(send_lag_p99_ms=1.3)
    assert flags(late) == ["UNSUSTAINED: requests were sent 1.3 ms late (p99)"]


def test_cold_caches_need_not_be_steady():
    assert flags(CELL | {"start": "cold", "halves_apart": 30.0}) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"p95_ms": 251.0}, "p95 251 ms > 250 ms"),
        ({"p95_ms": 1870.0}, "p95 1,870 ms > 250 ms"),
        ({"good_share": 0.9989}, "99.89 % good answers < 99.9 %"),
        ({"good_share": 0.0, "p95_ms": None}, "0.00 % good answers < 99.9 %"),
        ({"sent": 0, "good_share": None, "p95_ms": None}, "no request was sent"),
    ],
)
def test_the_service_level(changes, problem):
    assert missed(SUMMARY) == []
    assert missed(SUMMARY | changes) == [problem]


def test_the_level_counts_from_the_end_of_the_arrival_on():
    slow = SUMMARY | {"p95_ms": 999.0}
    assert verdict(change(CELL, "phases.arrival", slow)) == "kept"
    for phase in ("warm-up", "window"):
        missing = change(CELL, f"phases.{phase}", slow)
        assert verdict(missing) == "missed"
        assert problems(missing) == [f"{phase}: p95 999 ms > 250 ms"]


@pytest.mark.parametrize(
    "changes",
    [
        {"invalid": ["3 wrong answers"]},
        {"start": "cold"},
        {"flags": ["UNSUSTAINED: 197 of 200 requests/s were answered"]},
    ],
)
def test_what_is_not_judged(changes):
    assert verdict(CELL | changes) == "not judged"


def test_a_stack_that_refuses_fast_is_never_better_than_one_that_answers_slowly():
    refuses = SUMMARY | {"good": 1000, "good_share": 0.5, "failed": 1000, "p95_ms": 2.0}
    answers = SUMMARY | {"p95_ms": 249.0}
    assert missed(refuses)
    assert not missed(answers)


def test_a_window_is_hopeless_when_no_second_can_make_it_good():
    # 300 users ask 3,000 times in 10 s at most, and 3 of them may fail
    assert not hopeless({"failed": 3}, users=300, seconds=10)
    assert hopeless({"failed": 4}, users=300, seconds=10)
