"""Who asks for what: the shares of each pattern."""

import random
from collections import Counter

import pytest

from users.patterns import HOT_SPOTS, PATTERNS

LOCATIONS = [f"Town {number}" for number in range(1000)]
REQUESTS = 20_000


def ask(pattern, users, requests=REQUESTS):
    """How often each location is asked for."""
    new_user = PATTERNS[pattern].prepare(LOCATIONS, random.Random(1))
    choosers = [new_user() for _ in range(users)]
    return Counter(choosers[number % users]() for number in range(requests))


def test_random_reaches_every_location_about_equally():
    counts = ask("random", users=10)
    assert len(counts) == len(LOCATIONS)
    assert max(counts.values()) < 3 * REQUESTS / len(LOCATIONS)


def test_a_fixed_user_never_changes():
    assert len(ask("fixed", users=1)) == 1
    counts = ask("fixed", users=100)
    assert 80 <= len(counts) <= 100


def test_weighted_has_five_hot_spots_with_their_shares():
    shares = [100 * count / REQUESTS for _, count in ask("weighted", users=10).most_common()]
    assert shares == pytest.approx(HOT_SPOTS, abs=1.5)


def test_zipf_has_hot_spots_and_a_tail_over_all():
    ranked = [count for _, count in ask("zipf", users=10, requests=200_000).most_common()]
    assert ranked[0] / ranked[1] == pytest.approx(2, rel=0.1)
    assert ranked[0] / ranked[9] == pytest.approx(10, rel=0.15)
    assert len(ranked) == len(LOCATIONS)


@pytest.mark.parametrize("pattern", ["weighted", "zipf"])
def test_the_most_popular_location_is_the_same_in_every_process(pattern):
    first, second = (PATTERNS[pattern].prepare(LOCATIONS, random.Random(seed))() for seed in (1, 2))
    tops = [
        Counter(choose() for _ in range(2000)).most_common(1)[0][0] for choose in (first, second)
    ]
    assert tops[0] == tops[1]
