"""What must be true of the loaded data before anything serves it."""

import math
from dataclasses import dataclass

import psycopg2

from gate.generated import Generated, Totals

TABLES = (
    *("weather_data", "weather_locations"),
    *("weather_load", "weather_load_segments", "weather_full_check"),
)
COVERING_INDEX = "weather_data_location_temperature"
SHOWN_LOCATIONS = 5
RECOMPUTED_LOCATIONS = 100  # 0.2 s at 100 million rows
CONFIDENCE = 0.99

# One scan of the table for all that concerns single rows; each count names rows that are wrong.
# NOT BETWEEN is NULL for a NULL and so leaves it to the count of NULLs.
ROW_CHECKS = {
    "have a NULL": "num_nulls(id, location, temperature, humidity, wind_speed, timestamp) > 0",
    "have a temperature outside -10..40 degC": "temperature NOT BETWEEN -10 AND 40",
    "have a humidity outside 20..100 %": "humidity NOT BETWEEN 20 AND 100",
    "have a wind_speed outside 0..20 m/s": "wind_speed NOT BETWEEN 0 AND 20",
    "have a timestamp outside the 5 years before the load": (
        "timestamp NOT BETWEEN period_end - interval '5 years' AND period_end"
    ),
}
SCAN = f"""
SELECT count(*), min(id), max(id),
       {", ".join(f"count(*) FILTER (WHERE {condition})" for condition in ROW_CHECKS.values())}
FROM weather_data, (SELECT max(period_end) AS period_end FROM weather_load) AS load
"""  # noqa: S608 - built from the constants above

# count, min and max of the ids, with a unique index on them, prove that they are 1 to N, each once.
# A definition says how an index was made; whether it is complete stands in pg_index.
INDEX_CHECKS = {
    "primary key (id)": """
SELECT FROM pg_constraint JOIN pg_index ON indexrelid = conindid
WHERE conrelid = 'weather_data'::regclass
  AND pg_get_constraintdef(pg_constraint.oid) = 'PRIMARY KEY (id)'
  AND indisunique AND indisvalid AND indisready
""",
    f"index {COVERING_INDEX} (location) INCLUDE (temperature)": f"""
SELECT FROM pg_index
WHERE indexrelid = to_regclass('{COVERING_INDEX}') AND indrelid = 'weather_data'::regclass
  AND pg_get_indexdef(indexrelid) LIKE '% (location) INCLUDE (temperature)%'
  AND indpred IS NULL AND indisvalid AND indisready
""",
}

# Every location's rows and sum against what the generator counted while it made them. Temperatures
# have two decimals, so a sum in whole hundredths is exact.
LOCATION_DIFFERENCES = """
SELECT location,
       coalesce(actual.records, 0), coalesce(actual.hundredths, 0),
       coalesce(expected.records, 0), coalesce(expected.temperature_sum * 100, 0)
FROM weather_locations AS expected
FULL JOIN (
    SELECT location, count(*) AS records, round(sum(temperature) * 100)::numeric AS hundredths
    FROM weather_data GROUP BY location
) AS actual USING (location)
WHERE (actual.records, actual.hundredths)
      IS DISTINCT FROM (expected.records::bigint, expected.temperature_sum * 100)
ORDER BY location LIMIT 1
"""


# The sums of some locations, as above; so many are an index-only scan for each.
SAMPLE = """
SELECT location, actual.*
FROM (SELECT location FROM weather_locations ORDER BY random() LIMIT %s) AS sample, LATERAL (
    SELECT count(*), coalesce(round(sum(temperature) * 100)::bigint, 0)
    FROM weather_data WHERE weather_data.location = sample.location
) AS actual
"""


class CheckFailedError(Exception):
    """The data is not what it must be; the text is one line with the reason."""


@dataclass(frozen=True)
class LocationAverage:
    """A location and the average of its temperatures in degC."""

    location: str
    average_temperature: float


@dataclass(frozen=True)
class Sample:
    """How many random locations were recomputed, and how many there are."""

    recomputed: int
    locations: int

    @property
    def least_found(self) -> int:
        """How many locations must differ for CONFIDENCE that one is in the sample, at most.

        From (1 - share)**recomputed <= 1 - CONFIDENCE: drawing without putting back only helps.
        """
        if self.recomputed == self.locations:
            return 1
        share = 1 - (1 - CONFIDENCE) ** (1 / self.recomputed)
        return math.ceil(share * self.locations)


def check_tables(cursor: psycopg2.extensions.cursor) -> None:
    """Raise CheckFailedError unless the tables that the populator makes are there."""
    for table in TABLES:
        cursor.execute("SELECT to_regclass(%s)", (table,))
        if cursor.fetchone()[0] is None:
            raise CheckFailedError(f"table {table} does not exist: run data-populator first")
    cursor.execute("SELECT EXISTS (SELECT FROM weather_load)")
    if not cursor.fetchone()[0]:
        raise CheckFailedError("weather_load is empty: run data-populator first")


def check_rows(cursor: psycopg2.extensions.cursor, total_records: int) -> None:
    """Raise CheckFailedError unless total_records rows are there, without NULLs, all in range."""
    cursor.execute(SCAN)
    records, first_id, last_id, *wrong_rows = cursor.fetchone()
    _expect_number(records, total_records)
    for problem, rows in zip(ROW_CHECKS, wrong_rows, strict=True):
        if rows:
            raise CheckFailedError(f"{rows} rows {problem}")
    if (first_id, last_id) != (1, total_records):
        raise CheckFailedError(
            f"ids run from {first_id} to {last_id}, expected 1 to {total_records}"
        )


def check_number(cursor: psycopg2.extensions.cursor, total_records: int) -> None:
    """Raise CheckFailedError unless the list of locations counts total_records rows."""
    cursor.execute("SELECT coalesce(sum(records), 0) FROM weather_locations")
    _expect_number(cursor.fetchone()[0], total_records)


def _expect_number(records: int, total_records: int) -> None:
    if records != total_records:
        raise CheckFailedError(f"weather_data holds {records} rows, expected {total_records}")


def check_indexes(cursor: psycopg2.extensions.cursor) -> None:
    """Raise CheckFailedError unless the primary key and the covering index are there and valid."""
    for index, proof in INDEX_CHECKS.items():
        cursor.execute(proof)
        if not cursor.rowcount:
            raise CheckFailedError(f"weather_data has no valid {index}")


def check_locations(cursor: psycopg2.extensions.cursor) -> None:
    """Raise CheckFailedError unless every location has the rows and the sum that were generated."""
    cursor.execute(LOCATION_DIFFERENCES)
    if difference := cursor.fetchone():
        location, records, hundredths, expected_records, expected_hundredths = difference
        expected = Totals(expected_records, expected_hundredths)
        raise _location_differs(location, Totals(records, hundredths), expected)


def check_sample(cursor: psycopg2.extensions.cursor) -> Sample:
    """Recompute random locations from the seed; raises CheckFailedError where one differs."""
    cursor.execute("SELECT first_id, last_id FROM weather_load_segments ORDER BY 1")
    segments = cursor.fetchall()
    cursor.execute("SELECT seed, cities FROM weather_load")
    generated = Generated(*cursor.fetchone(), segments)
    cursor.execute(SAMPLE, (RECOMPUTED_LOCATIONS,))
    sample = cursor.fetchall()
    for location, records, hundredths in sample:
        actual, expected = Totals(records, hundredths), generated.totals(location)
        if actual != expected:
            raise _location_differs(location, actual, expected)
    cursor.execute("SELECT count(*) FROM weather_locations")
    return Sample(len(sample), cursor.fetchone()[0])


def _location_differs(location: str, actual: Totals, expected: Totals) -> CheckFailedError:
    return CheckFailedError(
        f"{location} has {actual.records} rows whose temperatures add up to "
        f"{actual.hundredths / 100:.2f}, generated were {expected.records} rows and "
        f"{expected.hundredths / 100:.2f}"
    )


def sample_averages(cursor: psycopg2.extensions.cursor) -> list[LocationAverage]:
    """The averages of SHOWN_LOCATIONS random locations, computed from their rows."""
    cursor.execute(
        "SELECT location, temperature_sum / records FROM weather_locations"
        " ORDER BY random() LIMIT %s",
        (SHOWN_LOCATIONS,),
    )
    averages = []
    for location, expected in cursor.fetchall():
        cursor.execute("SELECT avg(temperature) FROM weather_data WHERE location = %s", (location,))
        average = cursor.fetchone()[0]
        if abs(average - float(expected)) > 0.001:
            raise CheckFailedError(
                f"the average of {location} is {average:.4f} by SQL and {expected:.4f} by the "
                "generator's rows"
            )
        averages.append(LocationAverage(location, average))
    return averages


def check_plan(cursor: psycopg2.extensions.cursor, location: str) -> None:
    """Raise CheckFailedError unless the average of a location reads the covering index alone."""
    cursor.execute(
        "EXPLAIN (ANALYZE, FORMAT json)"
        " SELECT avg(temperature) FROM weather_data WHERE location = %s",
        (location,),
    )
    plan = cursor.fetchone()[0][0]["Plan"]
    scans = [node for node in _nodes(plan) if node.get("Relation Name") == "weather_data"]
    for scan in scans:
        used = scan.get("Index Name", "no index")
        if scan["Node Type"] != "Index Only Scan" or used != COVERING_INDEX:
            raise CheckFailedError(
                f"the query's plan is {scan['Node Type']} on {used}, "
                f"expected Index Only Scan on {COVERING_INDEX}"
            )
        if scan["Heap Fetches"]:
            raise CheckFailedError(
                f"the index-only scan visits the table ({scan['Heap Fetches']} heap fetches): "
                "VACUUM weather_data"
            )


def _nodes(plan: dict) -> list[dict]:
    """A plan's node and all below it."""
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]
