"""The search for the capacity, on stacks that are made up."""

import random

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

    options = {"precision": 0.05, "most": MOST} | options
    return Search(probe, **options).run(), probes


@pytest.mark.parametrize("capacity", [10, 11, 40, 500, 999, 1000, 1001, 3217, 11_999])
def test_a_sharp_capacity_is_found_to_the_precision(capacity):
    found, probes = search(lambda users: users <= capacity)
    assert not found.censored
    assert capacity - max(0.05 * capacity, FEWEST) <= found.users <= capacity
    assert len(probes) <= 12


def test_both_ends_are_probed_twice():
    found, probes = search(lambda users: users <= 3217)
    too_many = min(users for users in probes if users > 3217)
    assert (probes.count(found.users), probes.count(too_many)) == (2, 2)


def test_a_coarse_search_repeats_nothing():
    found, probes = search(lambda users: users <= 3217, precision=0.15, repeated=False)
    assert 3217 / 1.15 <= found.users <= 3217
    assert len(set(probes)) == len(probes) <= 6


def test_a_search_begins_where_it_is_told():
    _, probes = search(lambda users: users <= 3217, first=2900, growth=1.2)
    assert probes[:2] == [2900, 3480]
    assert len(probes) <= 8
    _, probes = search(lambda users: users <= 2000, first=2900, growth=1.2)
    assert probes[:2] == [2900, 2417]


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
    assert 4750 <= found.users <= 5000


@pytest.mark.parametrize("unlucky", [Outcome.MISSED, Outcome.GENERATOR])
def test_one_unlucky_probe_changes_nothing(unlucky):
    once = iter([unlucky])  # at 2,000 users
    found, probes = search(
        lambda users: next(once, Outcome.HOLDS if users <= 3217 else Outcome.MISSED)
    )
    assert probes[:2] == [2000, 1000]
    assert found == Capacity(found.users, censored=False)
    assert 3217 / 1.05 <= found.users <= 3217


def test_one_lucky_probe_changes_nothing():
    lucky = iter([Outcome.HOLDS] * 2)  # at 2,000 and 4,000 users
    found, _ = search(lambda users: next(lucky, users <= 3217))
    assert 3217 / 1.05 <= found.users <= 3217


def test_a_noisy_knee_is_found_on_average():
    rng = random.Random(1)
    found = [
        search(lambda users: users * rng.gauss(1, 0.04) <= 3200, first=2880, growth=1.2)
        for _ in range(200)
    ]
    mean = sum(capacity.users for capacity, _ in found) / len(found)
    assert mean == pytest.approx(3200, rel=0.03)
    assert max(abs(capacity.users / 3200 - 1) for capacity, _ in found) < 0.15
    assert sum(len(probes) for _, probes in found) / len(found) < 10
