"""The search for the capacity, on stacks that are made up."""

import random
import statistics

import pytest

from lab.search import FEWEST, Capacity, Outcome, Search

MOST = 12_000


def search(holds, **options):
    """What is found where ``holds`` says so of a number of users, and the numbers probed."""
    probes = []

    def probe(users):
        probes.append(users)
        outcome = holds(users)
        if isinstance(outcome, bool):
            return Outcome.HOLDS if outcome else Outcome.MISSED
        return outcome

    options = {"precision": 0.035, "most": MOST} | options
    return Search(probe, **options).run(), probes


@pytest.mark.parametrize("capacity", [11, 40, 500, 999, 1000, 1001, 3217, 11_500])
def test_a_sharp_capacity_is_found_to_the_precision(capacity):
    found, probes = search(lambda users: users <= capacity)
    assert not found.censored
    assert found.users == pytest.approx(capacity, rel=0.04, abs=1)
    assert len(probes) <= 16


def test_a_coarse_search_has_few_probes():
    found, probes = search(lambda users: users <= 3217, precision=0.08)
    assert found.users == pytest.approx(3217, rel=0.15)
    assert len(probes) <= 6


def test_a_search_begins_where_it_is_told():
    _, probes = search(lambda users: users <= 3217, first=3100, growth=1.1)
    assert probes[:2] == [3100, 3410]
    assert len(probes) <= 8
    _, probes = search(lambda users: users <= 2000, first=2900, growth=1.1)
    assert probes[:3] == [2900, 2636, 2179]


def test_where_it_begins_does_not_decide_what_is_found():
    rng = random.Random(1)
    for first in (2560, 3840):  # 0.8 and 1.2 times
        found = [noisy(rng, first)[0].users / 3200 for _ in range(100)]
        assert sum(found) / 100 == pytest.approx(1, abs=0.01)


def test_none_holds():
    found, probes = search(lambda _: False)
    assert found == Capacity(0, censored=False)
    assert min(probes) == FEWEST


def test_all_hold():
    found, probes = search(lambda _: True)
    assert found == Capacity(MOST, censored=True)
    assert probes == [2000, 4000, 8000, 12_000]


def test_the_generator_is_the_limit():
    found, _ = search(lambda users: Outcome.HOLDS if users <= 5000 else Outcome.GENERATOR)
    assert found.censored
    assert found.users == pytest.approx(5000, rel=0.04)


@pytest.mark.parametrize("unlucky", [Outcome.MISSED, Outcome.GENERATOR])
def test_one_unlucky_probe_is_outvoted(unlucky):
    once = iter([unlucky])  # at 2,000 users
    found, probes = search(
        lambda users: next(once, Outcome.HOLDS if users <= 3217 else Outcome.MISSED)
    )
    assert probes[:2] == [2000, 1000]
    assert found.users == pytest.approx(3217, rel=0.05)
    assert not found.censored


def test_one_lucky_probe_is_outvoted():
    lucky = iter([Outcome.HOLDS] * 2)  # at 2,000 and 4,000 users
    found, _ = search(lambda users: next(lucky, users <= 3217))
    assert found.users == pytest.approx(3217, rel=0.05)


def noisy(rng, first):
    """A search on a stack whose capacity of 3,200 moves by 4 % from probe to probe."""
    return search(lambda users: users * rng.gauss(1, 0.04) <= 3200, first=first, growth=1.1)


def test_a_noisy_knee_is_found_on_average():
    rng = random.Random(1)
    found = [noisy(rng, round(3200 * rng.gauss(1, 0.07))) for _ in range(300)]
    ratios = [capacity.users / 3200 for capacity, _ in found]
    assert statistics.fmean(ratios) == pytest.approx(1, abs=0.01)
    assert statistics.stdev(ratios) < 0.03
    assert sum(len(probes) for _, probes in found) / len(found) < 6.5
