"""Numbers of a stretch of a run, from lines that count from the start."""

import json

import pytest

from lab.recording import answers, percentile, read, series, window


def line(moment, requests, times, users=5, failures=0, workers=1, **answered):
    return {
        "time": 1000.0 + moment,
        "users": users,
        "workers": workers,
        "requests": requests,
        "failures": failures,
        "response_times": times,
        "answers": {f"X-Cache {name}": count for name, count in answered.items()},
    }


LINES = [
    line(0, 0, {}, users=0),
    line(1, 10, {"500": 10}, users=3, failures=2, miss=10),
    line(2, 30, {"500": 10, "1": 20}, failures=2, miss=10, hit=20),
    line(3, 50, {"500": 10, "1": 38, "9": 2}, failures=3, miss=11, hit=39),
    line(4, 50, {"500": 10, "1": 38, "9": 2}, users=0, failures=3, miss=11, hit=39),
]


def test_a_window_knows_nothing_of_before_and_after():
    result = window(LINES, 1000.9, 1003.0)
    assert (result["requests"], result["failures"], result["seconds"]) == (40, 1, 2.0)
    assert result["requests_per_second"] == 20
    assert (result["p50_ms"], result["p95_ms"], result["p99_ms"]) == (1, 1, 9)
    assert result["fewest_users"] == 3
    assert result["answers"] == {"X-Cache": {"hit": 39, "miss": 1}}


def test_a_window_without_lines_is_empty():
    result = window(LINES, 2000.0, 2010.0)
    assert (result["requests"], result["p95_ms"]) == (0, None)


def test_series_is_second_by_second():
    points = series(LINES)
    assert [point["requests_per_second"] for point in points] == [10, 20, 20, 0]
    assert [point["p50_ms"] for point in points] == [500, 1, 1, None]
    assert [point["t"] for point in points] == [1, 2, 3, 4]


def test_answers_between_two_lines():
    assert answers(LINES[1], LINES[2]) == {"X-Cache": {"hit": 20}}


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 1), (51, 7), (99, 7), (100, 9)])
def test_percentile(percent, value):
    assert percentile({7.0: 49, 1.0: 50, 9.0: 1}, percent) == value


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "recording.jsonl"
    assert read(path) == []
    path.write_text(json.dumps(LINES[0]) + "\n" + json.dumps(LINES[1])[:20])
    assert read(path) == [LINES[0]]
