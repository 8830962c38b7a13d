"""The gate's own generator against data-populator's."""

from datetime import UTC, datetime

import pytest

from gate.checks import Sample
from gate.generated import Generated
from populator.rows import Generator, Segment, draw_cities

CITIES = draw_cities(42)


@pytest.mark.parametrize("seed", [42, 2**63 - 1])
@pytest.mark.parametrize("segments", [[(1, 7)], [(1, 60_000), (60_001, 123_457)]])
def test_every_location_is_as_the_populator_made_it(seed, segments):
    generator = Generator(seed, CITIES, datetime(2026, 1, 1, tzinfo=UTC))
    made = generator.totals([Segment(*segment) for segment in segments])
    again = Generated(seed, CITIES, segments)
    totals = [again.totals(location) for location in generator.locations]
    assert [one.records for one in totals] == made.records.tolist()
    assert [one.hundredths for one in totals] == made.temperature_sum.tolist()


def test_how_sure_a_sample_is():
    sample = Sample(recomputed=100, locations=13_309)
    missed = 1.0
    for drawn in range(sample.recomputed):
        missed *= 1 - sample.least_found / (sample.locations - drawn)
    assert 0.009 < missed <= 0.01
    assert Sample(recomputed=7, locations=7).least_found == 1
