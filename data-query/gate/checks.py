"""What must be true of the loaded data before anything serves it."""

from dataclasses import dataclass

import psycopg2

COVERING_INDEX = "weather_data_location_temperature"
SAMPLED_LOCATIONS = 5

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


class CheckFailedError(Exception):
    """The data is not what it must be; the text is one line with the reason."""


@dataclass(frozen=True)
class LocationAverage:
    """A location and the average of its temperatures in degC."""

    location: str
    average_temperature: float


def check_tables(cursor: psycopg2.extensions.cursor) -> None:
    """Raise CheckFailedError unless the tables that the populator makes are there."""
    for table in ("weather_data", "weather_locations", "weather_load"):
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
    if records != total_records:
        raise CheckFailedError(f"weather_data holds {records} rows, expected {total_records}")
    for problem, rows in zip(ROW_CHECKS, wrong_rows, strict=True):
        if rows:
            raise CheckFailedError(f"{rows} rows {problem}")
    if (first_id, last_id) != (1, total_records):
        raise CheckFailedError(
            f"ids run from {first_id} to {last_id}, expected 1 to {total_records}"
        )


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
        raise CheckFailedError(
            f"{location} has {records} rows whose temperatures add up to {hundredths / 100:.2f}, "
            f"generated were {expected_records} rows and {expected_hundredths / 100:.2f}"
        )


def sample_averages(cursor: psycopg2.extensions.cursor) -> list[LocationAverage]:
    """The averages of SAMPLED_LOCATIONS random locations, computed from their rows."""
    cursor.execute(
        "SELECT location, temperature_sum / records FROM weather_locations"
        " ORDER BY random() LIMIT %s",
        (SAMPLED_LOCATIONS,),
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
