"""Which locations people ask for: the registry of patterns.

A pattern's choice is prepared once for all locations; what it returns makes a chooser for each
virtual user.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

HOT_SPOTS = (50, 30, 10, 5, 5)  # percent of the requests
ZIPF_EXPONENT = 1.0  # the location of rank r is asked for 1/r as often as the first
POPULARITY_SEED = 42  # who is popular is the same in every process and every run

Choose = Callable[[], str]
NewUser = Callable[[], Choose]


class Pattern(NamedTuple):
    """How a pattern's users choose, and the Locust file with its users."""

    prepare: Callable[[Sequence[str], random.Random], NewUser]
    locust_file: str  # below simulate/


def uniform(locations: Sequence[str], rng: random.Random) -> NewUser:
    """Each location is as likely as any other: the hardest case for the caches."""
    return lambda: lambda: rng.choice(locations)


def fixed(locations: Sequence[str], rng: random.Random) -> NewUser:
    """Each user picks one location, and asks for it again and again."""

    def new_user() -> Choose:
        location = rng.choice(locations)
        return lambda: location

    return new_user


def weighted(locations: Sequence[str], rng: random.Random) -> NewUser:
    """Five hot spots get all requests, in the shares of HOT_SPOTS."""
    return _by_weight(_by_popularity(locations)[: len(HOT_SPOTS)], HOT_SPOTS, rng)


def zipf(locations: Sequence[str], rng: random.Random) -> NewUser:
    """A few are asked for often and all others now and then, as in most real traffic."""
    weights = (rank**-ZIPF_EXPONENT for rank in range(1, len(locations) + 1))
    return _by_weight(_by_popularity(locations), weights, rng)


PATTERNS = {
    "random": Pattern(uniform, "post/random-locations.py"),
    "fixed": Pattern(fixed, "post/fixed-location.py"),
    "weighted": Pattern(weighted, "post/weighted-locations.py"),
    "zipf": Pattern(zipf, "post/zipf-locations.py"),
}


def _by_popularity(locations: Sequence[str]) -> list[str]:
    return random.Random(POPULARITY_SEED).sample(locations, len(locations))


def _by_weight(locations: Sequence[str], weights: Iterable[float], rng: random.Random) -> NewUser:
    cumulated = list(itertools.accumulate(weights))
    return lambda: lambda: rng.choices(locations, cum_weights=cumulated)[0]
