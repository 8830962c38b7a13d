"""The scalability law: fits of synthetic points whose parameters are known."""

import math
import random

import pytest

from lab.model import Check, Model, check, fit

KNOWN = Model(lambda_=100.0, sigma=0.02, kappa=0.0005)


def points(model, numbers, noise=0.0):
    rng = random.Random(42)
    return [(n, model.predict(n) * rng.gauss(1, noise)) for n in numbers]


@pytest.mark.parametrize(
    "known", [KNOWN, Model(100.0, 0.1, 0.0), Model(100.0, 0.0, 0.001), Model(100.0, 0.0, 0.0)]
)
def test_the_parameters_come_back(known):
    found = fit(points(known, range(1, 60, 5)))
    assert found.lambda_ == pytest.approx(known.lambda_)
    assert found.sigma == pytest.approx(known.sigma, abs=1e-9)
    assert found.kappa == pytest.approx(known.kappa, abs=1e-9)


def test_a_parameter_that_is_known_is_not_fitted():
    exact = points(KNOWN, range(1, 60, 5))
    found = fit(exact, lambda_=100.0)
    assert (found.lambda_, found.sigma) == (100.0, pytest.approx(0.02))
    assert fit(exact, lambda_=120.0).lambda_ == 120.0
    straight = points(Model(100.0, 0.0, 0.0), (1, 2, 3))
    assert fit(straight, lambda_=100.0) == Model(100.0, 0, 0)
    assert fit(straight, lambda_=90.0) == Model(90.0, 0, 0), (
        "more than lambda allows: no contention"
    )
    assert [c.error_percent for c in check(straight, lambda_=90.0)] == pytest.approx([-10] * 3)


def test_noise_moves_them_little():
    found = fit(points(KNOWN, [n for n in range(1, 100, 3) for _ in range(5)], noise=0.03))
    assert found.lambda_ == pytest.approx(KNOWN.lambda_, rel=0.05)
    assert found.peak == pytest.approx(KNOWN.peak, rel=0.1)


def test_the_point_of_return():
    assert KNOWN.peak == pytest.approx(math.sqrt(0.98 / 0.0005))  # Gunther's formula
    top = max(range(1, 200), key=KNOWN.predict)
    assert abs(top - KNOWN.peak) <= 1
    assert Model(100.0, 0.1, 0.0).peak == math.inf


def test_no_parameter_is_negative_where_replicas_gain_more_than_themselves():
    found = fit([(1, 100.0), (2, 230.0), (3, 390.0)])
    assert min(found.sigma, found.kappa) == 0
    assert found.lambda_ > 0


def test_two_numbers_of_replicas_give_contention_alone():
    found = fit([(1, 100.0), (2, 160.0)])
    assert found.sigma == pytest.approx(0.25)  # 200 / (1 + sigma) = 160
    assert found.kappa == 0


def test_a_point_is_predicted_from_the_others_alone():
    good = points(Model(100.0, 0.1, 0.0), (1, 2, 3))
    assert [round(left_out.error_percent, 6) for left_out in check(good)] == [0, 0, 0]
    bad = [(n, x * 1.25 if n == 3 else x) for n, x in good]
    *_, last = check(bad)
    assert last == Check(3, pytest.approx(250.0), pytest.approx(312.5))
    assert last.error_percent == pytest.approx(-20)
    assert check(good[:2]) == []


def test_how_many_replicas_users_need():
    linear, returning = Model(1000.0, 0.0, 0.0), Model(1000.0, 0.0, 0.05)
    assert [linear.least(users) for users in (1, 1000, 1001, 10_000)] == [1, 1, 2, 10]
    assert returning.least(2000) == 3  # 2: 1818; 3: 2308
    assert returning.least(3000) is None, "more than the law's highest point"
    assert returning.highest == pytest.approx(max(map(returning.predict, range(1, 20))), rel=0.01)
    assert Model(1000.0, 0.25, 0.0).highest == 4000


@pytest.mark.parametrize("few", [[], [(1, 5.0)], [(1, 5.0), (1, 6.0)], [(1, 5.0), (2, 0.0)]])
def test_points_that_determine_nothing_are_refused(few):
    with pytest.raises(ValueError, match="positive points at two N"):
        fit(few)
