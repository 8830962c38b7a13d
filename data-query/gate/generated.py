"""Recomputes what data-populator generated, from the seed alone and with code of its own."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# As in data-populator/populator/rows.py; a test compares the results.
BLOCK_ROWS = 20_000
COLDEST, HOTTEST = -1000, 4000  # hundredths of a degC

# Philox4x64-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11.
ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
WORD = 2**64 - 1
WORDS_OF_COUNTER = 8  # of 32 bits


@dataclass(frozen=True)
class Totals:
    """A location's rows and the sum of their temperatures in hundredths of a degC."""

    records: int
    hundredths: int


class Generated:
    """What a seed, the cities as drawn and the segments (first and last id) of a load amount to."""

    def __init__(
        self, seed: int, cities: Sequence[str], segments: Sequence[tuple[int, int]]
    ) -> None:
        self._seed = seed
        self._drawn = sorted(cities)
        self._segments = segments

    def totals(self, location: str) -> Totals:
        """Recompute one location."""
        records = hundredths = 0
        for first_id, last_id in self._ids(location):
            records += last_id - first_id + 1
            hundredths += sum(self._temperature_sums(first_id, last_id))
        return Totals(records, hundredths)

    def _ids(self, location: str) -> Iterator[tuple[int, int]]:
        """First and last id of the location's rows in each segment, which is in its order."""
        start, end = bisect_left(self._drawn, location), bisect_right(self._drawn, location)
        for first_id, last_id in self._segments:
            rows = last_id - first_id + 1
            first, after = (-(-place * rows // len(self._drawn)) for place in (start, end))
            if first < after:
                yield first_id + first, first_id + after - 1

    def _temperature_sums(self, first_id: int, last_id: int) -> Iterator[int]:
        """The sum of each block's part of these rows."""
        for block in range((first_id - 1) // BLOCK_ROWS, (last_id - 1) // BLOCK_ROWS + 1):
            block_first = block * BLOCK_ROWS + 1
            first = max(first_id, block_first) - block_first
            after = min(last_id - block_first + 1, BLOCK_ROWS)
            words = _philox_words((self._seed, block), first, after)
            steps = HOTTEST - COLDEST + 1
            yield sum(word * steps >> 32 for word in words) + COLDEST * len(words)


def _philox_words(key: tuple[int, int], first: int, after: int) -> array:
    """The 32-bit words first..after-1 of the stream that NumPy's Philox(key) makes.

    All counters at once: each has 128 bits of one large integer, so that a multiplication by a
    constant of 64 bits fills, but never leaves, its place. 15 times as fast as one by one.
    """
    first_counter = first // WORDS_OF_COUNTER
    counters = -(-after // WORDS_OF_COUNTER) - first_counter
    ones = ((1 << 128 * counters) - 1) // ((1 << 128) - 1)
    mask = ones * WORD
    numbers = array("Q", bytes(16 * counters))
    numbers[::2] = array("Q", range(first_counter + 1, first_counter + counters + 1))
    c0, c1, c2, c3 = int.from_bytes(numbers.tobytes(), "little"), 0, 0, 0
    for number in range(ROUNDS):
        keys = [
            (start + number * step & WORD) * ones
            for start, step in zip(key, KEY_STEPS, strict=True)
        ]
        product0, product2 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = (product2 >> 64 & mask) ^ c1 ^ keys[0]
        c2 = (product0 >> 64 & mask) ^ c3 ^ keys[1]
        c1, c3 = product2 & mask, product0 & mask
    words = array("I", bytes(4 * WORDS_OF_COUNTER * counters))
    for offset, (low, high) in ((0, (c0, c1)), (4, (c2, c3))):
        half = array("I", (low | high << 64).to_bytes(16 * counters, "little"))
        for word in range(4):
            words[offset + word :: WORDS_OF_COUNTER] = half[word::4]
    skipped = first_counter * WORDS_OF_COUNTER
    return words[first - skipped : after - skipped]
