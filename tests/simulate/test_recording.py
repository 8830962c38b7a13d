"""Numbers of any stretch of a run, from lines that count a second each."""

import json

import pytest

from lab.recording import Recording, between, series, summary
from users.tally import LONGEST, PATIENCE, Tally, Times, add_up


class Response:
    def __init__(self, status_code=200, **headers):
        self.status_code = status_code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def line(moment, *requests, users=5, workers=1, **more):
    """A second's line; a request is its response, what is wrong with it, and its seconds."""
    tally = Tally()
    for response, error, seconds in requests:
        tally.count(response, error, seconds)
    fields = {"time": 1000.0 + moment, "seconds": 1.0, "users": users, "workers": workers}
    return json.loads(json.dumps(tally.as_line() | fields | more))


def hit(seconds):
    return Response(X_Served_By="flask", X_Cache="hit"), None, seconds


def refusal(who="pool", seconds=0.001):
    return Response(503, X_Served_By="flask", X_Refused_By=who), "status 503", seconds


@pytest.mark.parametrize(
    ("response", "error", "failure"),
    [
        (None, TimeoutError("timed out"), "network"),
        (Response(0), "closed", "network"),
        (Response(503, X_Served_By="flask", X_Refused_By="pool"), "status 503", "pool"),
        (Response(503, X_Served_By="flask", X_Refused_By="database"), "status 503", "database"),
        (Response(503, X_Served_By="flask", X_Refused_By="time"), "status 503", "time"),
        (Response(503, X_Edge_Cache="off"), "status 503", "nginx"),
        (Response(429), "status 429", "nginx"),
        (Response(500, X_Served_By="flask"), "status 500", "wrong"),
        (Response(200, X_Served_By="flask", X_Cache="hit"), "wrong answer: wrong average", "wrong"),
    ],
)
def test_who_a_failure_is_due_to(response, error, failure):
    tally = Tally()
    tally.count(response, error, 0.001)
    assert (tally.good, tally.failures, tally.tiers) == (0, {failure: 1}, {"refused": 1})
    assert tally.times.percentiles()["p50_ms"] is None, "percentiles are of right answers"
    assert tally.errors == {str(error): 1}


@pytest.mark.parametrize(
    ("headers", "tier"),
    [
        ({"X_Cache": "hit"}, "origin"),
        ({"X_Cache": "miss", "X_Edge_Cache": "miss"}, "origin"),
        ({"X_Cache": "bypass", "X_Edge_Cache": "off"}, "origin"),
        ({"X_Cache": "bypass", "X_Edge_Cache": "hit"}, "edge"),
    ],
)
def test_who_gave_a_right_answer(headers, tier):
    tally = Tally()
    tally.count(Response(X_Served_By="flask_replica_1", **headers), None, 0.001)
    assert (tally.good, tally.tiers) == (1, {tier: 1})
    assert tally.replicas == {"flask_replica_1": 1}


def test_a_late_answer_is_right_and_not_good():
    tally = Tally()
    tally.count(*hit(PATIENCE))
    tally.count(*hit(PATIENCE + 0.1))
    assert (tally.good, tally.failures, tally.tiers) == (1, {"late": 1}, {"origin": 2})
    assert tally.times.percentiles()["max_ms"] == pytest.approx(2100, rel=0.01)


@pytest.mark.parametrize("us", [50, 51, 99, 255.4, 257, 1234, 250_400, 2_000_000, 59_999_999])
def test_times_are_within_1_percent(us):
    times = Times()
    times.record(us / 1e6)
    for value in Times([times.encode()]).percentiles().values():
        assert value * 1000 == pytest.approx(us, rel=0.0101)


def test_what_takes_longer_than_the_longest_time_counts_as_that():
    times = Times()
    times.record(10 * LONGEST / 1e6)
    assert times.percentiles()["p50_ms"] == pytest.approx(LONGEST / 1000, rel=0.01)


def test_times_add_up_as_if_one_process_had_recorded_them():
    parts, whole = [Times(), Times()], Times()
    for number in range(1, 1001):
        parts[number % 2].record(number / 1000)
        whole.record(number / 1000)
    merged = Times(part.encode() for part in parts).percentiles("x_")
    assert merged == whole.percentiles("x_")
    values = [500, 950, 990, 999, 1000]
    assert list(merged.values()) == [pytest.approx(value, rel=0.01) for value in values]


def test_a_summary_of_a_stretch():
    lines = [
        line(1, hit(0.5), refusal("nginx"), users=3, workers=2),
        line(2, *[hit(0.010)] * 97, hit(3.0), refusal(), refusal("database")),
        line(3, *[hit(0.010)] * 100, users=4),
        line(4, hit(0.5), users=2),
    ]
    result = summary(between(lines, 1001.0, 1003.0))
    assert (result["sent"], result["good"], result["failed"]) == (200, 197, 3)
    assert result["failures"] == {"late": 1, "pool": 1, "database": 1}
    assert (result["seconds"], result["goodput"], result["good_share"]) == (2.0, 98.5, 0.985)
    tiers = {"edge": 0, "origin": 198, "refused": 2}
    assert result["tiers"] == tiers
    assert sum(tiers.values()) == result["sent"]
    assert result["replicas"] == {"flask": 200}
    assert [result[f"p{p}_ms"] for p in (50, 95, 99)] == [pytest.approx(10, rel=0.01)] * 3
    assert result["max_ms"] == pytest.approx(3000, rel=0.01)
    assert result["errors"][0]["count"] == 2
    assert (result["fewest_users"], result["fewest_workers"]) == (4, 1)
    assert "service_p50_ms" not in result


def test_a_stack_that_refuses_half_at_once_is_not_better_than_a_slow_one():
    slow = summary([line(1, *[hit(0.2)] * 100)])
    refusing = summary([line(1, *[hit(0.2)] * 50, *[refusal(seconds=0.0001)] * 50)])
    assert refusing["goodput"] == slow["goodput"] / 2
    assert refusing["p50_ms"] == slow["p50_ms"]


def test_a_summary_of_nothing():
    result = summary([])
    assert (result["sent"], result["goodput"], result["good_share"]) == (0, 0.0, None)
    assert (result["p95_ms"], result["max_ms"], result["fewest_users"]) == (None, None, 0)


def test_a_summary_of_an_open_loop():
    def times(*seconds):
        result = Times()
        for each in seconds:
            result.record(each)
        return result.encode()

    more = {"answered": 1, "unsent": 2, "service_times": times(0.01), "send_lag": times(0.0005)}
    (point,) = series([line(1, hit(0.02), **more)])
    assert point["service_p99_ms"] == pytest.approx(10, rel=0.01)
    result = summary([line(1, hit(0.02), **more), line(2, **more)])
    assert result["service_p50_ms"] == pytest.approx(10, rel=0.01)
    assert result["send_lag_p99_ms"] == pytest.approx(0.5, rel=0.01)
    assert (result["answered_per_second"], result["unsent"]) == (1.0, 4)


def test_series_is_second_by_second():
    points = series([line(1, hit(0.5), users=1), line(2, hit(0.1), refusal()), line(3)])
    assert [point["t"] for point in points] == [1, 2, 3]
    assert [point["users"] for point in points] == [1, 5, 5]
    assert [point["goodput"] for point in points] == [1, 1, 0]
    assert [point["failed"] for point in points] == [0, 1, 0]
    assert points[1]["p50_ms"] == pytest.approx(100, rel=0.01)
    assert points[2]["p50_ms"] is None
    assert series([]) == []


def test_tallies_of_two_workers_add_up():
    both = add_up([line(1, hit(0.1), cut_off=1), line(1, hit(0.1), refusal(), cut_off=2)])
    assert (both.good, both.failures, both.cut_off) == (2, {"pool": 1}, 3)
    assert both.as_line()["errors"] == [{"error": "status 503", "count": 1}]


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "recording.jsonl"
    recording = Recording(path)
    assert recording.lines() == []
    lines = [line(1), line(2, at="M\u00e9rida")]
    first, second = (json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
    path.write_bytes((first + second).encode()[:-20])
    assert recording.lines() == lines[:1]
    path.write_text(first + second)
    assert recording.lines() == lines, "the rest of a line is read when it is there"
    assert recording.lines() == lines, "and none of them twice"
