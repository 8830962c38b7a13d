"""Generates the weather rows: the same SEED gives the same rows, in any batch, in any order."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

# Values are made in blocks: block b is a function of (SEED, b) alone, so that a batch of any size,
# by any worker, after any interruption holds the same rows. 20,000 rows stay in the CPU's cache.
BLOCK_ROWS = 20_000

CITY_DRAWS = 20_000  # 13,309 different names for SEED=42: 750 rows of each at 10M rows

# Values are drawn as whole steps (hundredths, seconds), so that they have exactly two decimals.
TEMPERATURE = (-1000, 4000)  # hundredths of a degC, both ends included
HUMIDITY = (2000, 10000)  # hundredths of a percent
WIND_SPEED = (0, 2000)  # hundredths of a metre per second
PERIOD = timedelta(days=5 * 365)

_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"

# The only column of varying width is the last one: see Generator._encode.
COPY_COLUMNS = "id, temperature, humidity, wind_speed, timestamp, location"


def draw_cities(seed: int) -> list[str]:
    """Draw CITY_DRAWS names like Faker's city() does, with its frequencies (some come up often).

    Each part of the names is drawn for all at once, in 0.1 s: every call of city() adds up the
    weights of its first or last names anew.
    """
    from faker import Faker  # 0.2 s to import: only the first load of a database needs it

    names = ["faker.providers.address", "faker.providers.person"]
    fake = Faker("en_US", providers=names)  # all providers would take 20 ms longer
    fake.seed_instance(seed)
    providers = {provider.__provider__: provider for provider in fake.get_providers()}
    address, person = (providers[name] for name in names)
    parts = {
        name: iter(fake.random_elements(choices, length=CITY_DRAWS, use_weighting=True))
        for name, choices in (
            ("city_prefix", address.city_prefixes),
            ("city_suffix", address.city_suffixes),
            ("first_name", person.first_names),
            ("last_name", person.last_names),
        )
    }
    formats = fake.random_elements(address.city_formats, length=CITY_DRAWS)
    return [re.sub(r"{{(\w+)}}", lambda part: next(parts[part[1]]), form) for form in formats]


@dataclass(frozen=True)
class Segment:
    """The ids that one load adds: first_id..last_id, in the order of their locations.

    A table in the order of an index is what that index's build sorts fastest.
    """

    first_id: int
    last_id: int

    @property
    def rows(self) -> int:
        return self.last_id - self.first_id + 1


class Totals:
    """Records and sum of temperatures of every location, from the generator's own numbers."""

    def __init__(self, locations: int) -> None:
        self.records = np.zeros(locations, np.int64)
        self.temperature_sum = np.zeros(locations, np.int64)  # hundredths of a degC

    def add(self, other: "Totals") -> None:
        self.records += other.records
        self.temperature_sum += other.temperature_sum

    def add_block(self, location: np.ndarray, temperature: np.ndarray) -> None:
        """Add rows: locations (indexes, ascending) and temperatures (hundredths of a degC)."""
        first, last = location[0], location[-1]
        rows_from_first = location - first
        self.records[first : last + 1] += np.bincount(rows_from_first)
        # float64 holds whole numbers up to 2**53: sums of a block's hundredths are exact
        sums = np.bincount(rows_from_first, weights=temperature)
        self.temperature_sum[first : last + 1] += sums.astype(np.int64)


class Generator:
    """Makes the rows with given ids; holds no state, so threads may share it."""

    def __init__(self, seed: int, cities: Sequence[str], period_end: datetime) -> None:
        """Each of the cities gets equally many rows: a name that was drawn twice gets double."""
        self.seed = seed
        self.locations = sorted(set(cities))
        self._encoded = np.array([name.encode() for name in self.locations])
        self._lengths = np.char.str_len(self._encoded).astype(np.int32)
        position = {name: index for index, name in enumerate(self.locations)}
        self._drawn = np.sort(np.array([position[name] for name in cities], np.int32))
        self._period_start = (period_end - PERIOD - _POSTGRES_EPOCH) // timedelta(microseconds=1)
        self._record = _record_type(self._encoded.itemsize)

    def copy_binary(
        self, segment: Segment, first_id: int, last_id: int, totals: Totals
    ) -> Iterator[bytes]:
        """The rows first_id..last_id as a binary COPY of COPY_COLUMNS, piece by piece.

        Adds them to totals. Binary costs the server about a third of text.
        """
        yield _COPY_HEADER
        records = self._empty_records()
        for first, location, columns in self._blocks(segment, first_id, last_id):
            yield from self._encode(records[: len(location)], first, location, *columns)
            totals.add_block(location, columns[0])
        yield _COPY_TRAILER

    def totals(self, segments: Sequence[Segment]) -> Totals:
        """The totals of whole segments, without encoding their rows."""
        totals = Totals(len(self.locations))
        for segment in segments:
            for _, location, columns in self._blocks(segment, segment.first_id, segment.last_id):
                totals.add_block(location, columns[0])
        return totals

    def _blocks(
        self, segment: Segment, first_id: int, last_id: int
    ) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
        """First id, locations (indexes) and values of the rows, block by block."""
        for block in range((first_id - 1) // BLOCK_ROWS, (last_id - 1) // BLOCK_ROWS + 1):
            block_first = block * BLOCK_ROWS + 1
            first = max(first_id, block_first)
            last = min(last_id, block_first + BLOCK_ROWS - 1)
            positions = np.arange(first - segment.first_id, last - segment.first_id + 1)
            location = self._drawn[positions * len(self._drawn) // segment.rows]
            rows = slice(first - block_first, last - block_first + 1)
            yield first, location, [column[rows] for column in self._values(block)]

    def _values(self, block: int) -> tuple[np.ndarray, ...]:
        """Temperature, humidity, wind speed (hundredths) and offset (s) of a block's rows.

        Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
        SC11) and its raw stream is fixed, unlike the distributions built on it, which NumPy may
        change between versions.
        """
        words = np.random.Philox(key=[self.seed, block]).random_raw(BLOCK_ROWS * 2)
        temperature, humidity, wind_speed, offset = words.view(np.uint32).reshape(4, -1)
        return (
            _scale(temperature, *TEMPERATURE),
            _scale(humidity, *HUMIDITY),
            _scale(wind_speed, *WIND_SPEED),
            _scale(offset, 0, int(PERIOD.total_seconds()) - 1),
        )

    def _empty_records(self) -> np.ndarray:
        """Records with all that is the same in each row; a batch's blocks share them."""
        records = np.empty(BLOCK_ROWS, self._record)
        records["fields"] = 6
        records["id_size"] = 4
        for name in ("temperature", "humidity", "wind_speed", "timestamp"):
            records[f"{name}_size"] = 8
        return records

    def _encode(
        self,
        records: np.ndarray,
        first_id: int,
        location: np.ndarray,
        temperature: np.ndarray,
        humidity: np.ndarray,
        wind_speed: np.ndarray,
        offset: np.ndarray,
    ) -> Iterator[bytes]:
        """The rows in COPY's binary format, in pieces; records are overwritten.

        They are built as records of one width with the location padded, then cut: rows of a
        location stand side by side, so one slice trims them all.
        """
        rows = len(location)
        lengths = self._lengths[location]
        records["id"] = np.arange(first_id, first_id + rows)
        for name, hundredths in (
            ("temperature", temperature),
            ("humidity", humidity),
            ("wind_speed", wind_speed),
        ):
            records[name] = hundredths / 100
        records["timestamp"] = self._period_start + offset * 1_000_000
        records["location_size"] = lengths
        records["location"] = self._encoded[location]
        padded = records.view(np.uint8).reshape(rows, -1)
        fixed_bytes = self._record.fields["location"][1]
        starts = [0, *(np.flatnonzero(np.diff(lengths)) + 1), rows]
        for start, end in itertools.pairwise(starts):
            yield padded[start:end, : fixed_bytes + lengths[start]].tobytes()


def _scale(words: np.ndarray, low: int, high: int) -> np.ndarray:
    """Map 32-bit words to whole numbers low..high.

    Multiply-and-shift (Lemire, "Fast random integer generation in an interval", 2019) without its
    rejection step: a hundredth of a degC gets 858,822 or 858,823 words, too even to notice.
    """
    scaled = np.multiply(words, np.uint64(high - low + 1), dtype=np.uint64)
    scaled >>= np.uint64(32)
    values = scaled.view(np.int64)
    values += low
    return values


def _record_type(location_bytes: int) -> np.dtype:
    """One row of COPY's binary format with the location padded to its greatest length."""
    return np.dtype(
        [
            ("fields", ">i2"),
            *(("id_size", ">i4"), ("id", ">i4")),
            *(("temperature_size", ">i4"), ("temperature", ">f8")),
            *(("humidity_size", ">i4"), ("humidity", ">f8")),
            *(("wind_speed_size", ">i4"), ("wind_speed", ">f8")),
            *(("timestamp_size", ">i4"), ("timestamp", ">i8")),
            *(("location_size", ">i4"), ("location", f"S{location_bytes}")),
        ]
    )
