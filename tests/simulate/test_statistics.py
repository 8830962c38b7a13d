"""Intervals and verdicts with known answers."""

import math
import random

import pytest
import scipy.stats

from lab.statistics import Interval, interval, ratio_interval, student, verdict


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_student_is_what_scipy_says(level):
    for freedom in (1, 2, 3, 4, 9, 30, 101):
        expected = scipy.stats.t.ppf((1 + level) / 2, freedom)
        assert student(freedom, level) == pytest.approx(expected, rel=1e-6)


def test_the_interval_of_a_mean():
    # 12.706 standard errors, of 1 each
    assert interval([9, 11]) == pytest.approx((10, 10 - 12.706, 10 + 12.706), abs=0.001)
    assert interval([5.0, 5.0, 5.0]) == (5, 5, 5)


def test_one_value_has_no_bounds_and_none_no_mean():
    assert interval([7.0]) == (7.0, None, None)
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_19_of_20_intervals_hold_the_true_mean():
    rng = random.Random(1)
    intervals = [interval([rng.gauss(100, 7) for _ in range(5)]) for _ in range(1000)]
    assert 930 < sum(low <= 100 <= high for _, low, high in intervals) < 970


def test_a_ratio_is_that_of_pairs():
    slow = [100, 200, 400]
    ratio = ratio_interval(slow, [value * 1.1 for value in slow])
    assert ratio == pytest.approx((1.1, 1.1, 1.1))
    mean, low, high = ratio_interval([100, 100], [200, 50])
    assert mean == pytest.approx(1), "twice and half as much are equally far from no difference"
    assert low * high == pytest.approx(1)


def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        ratio_interval([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="shorter"):
        ratio_interval([1.0, 1.0], [1.0])


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        ((1.031, 1.012, 1.05), "B is 3.1 % faster [1.2, 5.0]"),
        ((0.9, 0.88, 0.92), "B is 10.0 % slower [8.0, 12.0]"),
        ((1.02, 0.99, 1.05), "no difference [-1.0, +5.0]"),
        ((0.97, 0.94, 1.0), "no difference [-6.0, +0.0]"),
        ((1.008, 1.007, 1.009), "no difference [+0.7, +0.9]"),
        ((1.5, None, None), "one pair says nothing: measure more"),
    ],
)
def test_verdict(ratio, words):
    assert verdict(Interval(*ratio)) == words


def test_equal_sides_hardly_ever_differ_and_10_percent_are_found():
    """With pairs as noisy as a busy machine makes them: 3 %."""
    rng = random.Random(1)

    def compare(effect):
        a = [1000 * math.exp(rng.gauss(0, 0.03)) for _ in range(10)]
        b = [effect * 1000 * math.exp(rng.gauss(0, 0.03)) for _ in range(10)]
        return verdict(ratio_interval(a, b, 0.99))

    same = [compare(1.0) for _ in range(500)]
    assert sum(words.startswith("no difference") for words in same) >= 485
    slower = [compare(1 / 1.1) for _ in range(500)]
    assert sum("slower" in words for words in slower) >= 490
