"""The generator alone: reproducible, evenly distributed, exact to two decimals."""

import collections
import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from faker import Faker
from scipy import stats

from populator import rows

PERIOD_END = datetime(2026, 1, 1, tzinfo=UTC)
MILLION = rows.Segment(1, 1_000_000)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def cities():
    return rows.draw_cities(42)


@pytest.fixture(scope="module")
def generator(cities):
    return rows.Generator(42, cities, PERIOD_END)


@pytest.fixture(scope="module")
def million(generator):
    """The first million rows as columns."""
    return columns_of(generator, MILLION, 1, 1_000_000)


def columns_of(generator, segment, first_id, last_id, totals=None):
    """The generated rows as a dict of columns."""
    totals = totals or rows.Totals(len(generator.locations))
    return decode(b"".join(generator.copy_binary(segment, first_id, last_id, totals)))


def decode(data):
    """The rows of a binary COPY, as a dict of columns."""
    assert data[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert data[-2:] == b"\xff\xff"
    columns = {name: [] for name in rows.COPY_COLUMNS.split(", ")}
    position, end = 19, len(data) - 2
    fixed = struct.Struct(">hiiidididiqi")
    while position < end:
        fields, _, row_id, _, temperature, _, humidity, _, wind_speed, _, micros, size = (
            fixed.unpack_from(data, position)
        )
        assert fields == 6
        position += fixed.size
        location = data[position : position + size].decode()
        position += size
        row = (row_id, temperature, humidity, wind_speed, micros, location)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return columns


def test_any_batch_size_gives_the_same_rows(generator):
    whole = columns_of(generator, MILLION, 1, 250_000)
    pieces = {name: [] for name in whole}
    for first, last in [(1, 1), (2, 99_999), (100_000, 100_001), (100_002, 250_000)]:
        for name, column in columns_of(generator, MILLION, first, last).items():
            pieces[name] += column
    assert pieces == whole
    assert whole["id"] == list(range(1, 250_001))


def test_the_seed_changes_every_value(cities, generator):
    other = columns_of(rows.Generator(43, cities, PERIOD_END), MILLION, 1, 1000)
    mine = columns_of(generator, MILLION, 1, 1000)
    assert all(mine[name] != other[name] for name in mine if name not in ("id", "location"))


def test_the_cities_follow_the_seed(cities):
    assert rows.draw_cities(42) == cities
    assert len(set(cities)) == 13_309  # the number that the documentation names
    assert rows.draw_cities(43) != cities


def test_the_cities_are_as_frequent_as_fakers(cities):
    fake = Faker("en_US")
    fake.seed_instance(7)
    theirs = collections.Counter(fake.city() for _ in range(len(cities)))
    ours = collections.Counter(cities)
    names = [name for name, _ in (ours + theirs).most_common(300)]
    table = [[counts[name] for name in names] for counts in (ours, theirs)]
    for row, counts in zip(table, (ours, theirs), strict=True):
        row.append(counts.total() - sum(row))
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert len(theirs) == pytest.approx(len(ours), rel=0.02)


def test_the_totals_are_those_of_the_rows(generator):
    segment = rows.Segment(50_000, 250_000)
    totals = rows.Totals(len(generator.locations))
    columns = columns_of(generator, segment, segment.first_id, segment.last_id, totals)
    expected = dict.fromkeys(generator.locations, (0, 0))
    for location, temperature in zip(columns["location"], columns["temperature"], strict=True):
        records, hundredths = expected[location]
        expected[location] = (records + 1, hundredths + round(temperature * 100))
    actual = zip(totals.records.tolist(), totals.temperature_sum.tolist(), strict=True)
    assert list(actual) == list(expected.values())
    again = generator.totals([rows.Segment(50_000, 100_000), rows.Segment(100_001, 250_000)])
    assert again.records.sum() == totals.records.sum()
    assert again.temperature_sum.sum() == totals.temperature_sum.sum()


def test_a_segment_is_in_the_order_of_its_locations(generator):
    segment = rows.Segment(100_001, 150_000)
    locations = columns_of(generator, segment, 100_001, 150_000)["location"]
    assert locations == sorted(locations)
    assert len(set(locations)) == len(generator.locations)


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [("temperature", -10, 40), ("humidity", 20, 100), ("wind_speed", 0, 20)],
)
def test_values_are_uniform_with_two_decimals(million, column, low, high):
    values = np.array(million[column])
    hundredths = np.round(values * 100).astype(int)
    assert (hundredths / 100 == values).all()
    assert (hundredths.min(), hundredths.max()) == (low * 100, high * 100)
    observed = np.bincount(hundredths - low * 100)
    assert stats.chisquare(observed).pvalue > 1e-4


def test_timestamps_are_uniform_over_the_five_years(million):
    age = (PERIOD_END - POSTGRES_EPOCH) // timedelta(microseconds=1) - np.array(
        million["timestamp"]
    )
    span = 5 * 365 * 86_400 * 1_000_000
    assert age.min() > 0
    assert age.max() <= span
    assert stats.kstest(age / span, "uniform").pvalue > 1e-4


def test_locations_follow_fakers_frequencies(million, cities):
    """Every draw of a name stands for equally many rows, give or take one."""
    share = len(million["location"]) / len(cities)
    drawn = collections.Counter(cities)
    observed = collections.Counter(million["location"])
    assert observed.keys() == drawn.keys()
    assert all(abs(observed[name] - share * drawn[name]) < 1 for name in drawn)


def test_columns_are_independent(million):
    values = [million[name] for name in ("temperature", "humidity", "wind_speed", "timestamp")]
    correlations = np.corrcoef(values) - np.eye(4)
    assert np.abs(correlations).max() < 0.005  # 5 standard deviations of a million pairs
