"""The application's SQL."""

from typing import NamedTuple

import psycopg2

from weather.connect import Connection


class Average(NamedTuple):
    """A location's average in degrees Celsius, to 2 decimals; None where it has no records."""

    temperature: float | None
    records: int


# Prepared once per connection: parsing and planning cost about as much as the query itself, an
# index-only scan over weather_data_location_temperature.
# The sum is rounded before the division: temperatures have two decimals, so that makes it exact,
# and an average between two hundredths (0.075) is rounded away from zero, as decimal numbers are.
_PREPARE = """
PREPARE average (text) AS
SELECT round(round(sum(temperature)::numeric, 2) / count(*), 2), count(*)
FROM weather_data WHERE location = $1
"""


def average(connection: Connection, location: str, request_id: str) -> Average:
    """Average temperature and number of records of one location; raises as Connection.run().

    ``request_id`` is one of input.read_request_id(). It is a comment of EXECUTE, where PostgreSQL's
    log and pg_stat_activity show it; the prepared statement has none, so it is planned once. The
    form is that of sqlcommenter (google.github.io/sqlcommenter).
    """
    if "average" not in connection.prepared:
        connection.prepared.add("average")  # before it is: who asks may give up waiting for it
        try:
            connection.run(_PREPARE)
        except psycopg2.Error:
            connection.prepared.discard("average")
            raise
    execute = f"EXECUTE average (%s) /*request_id='{request_id}'*/"
    temperature, records = connection.run(execute, (location,)).fetchone()
    return Average(None if temperature is None else float(temperature), records)


def locations(connection: Connection) -> list[tuple[str, int]]:
    """All locations with their number of records; raises as Connection.run().

    The populator keeps them in a table of their own: finding them in weather_data would scan it.
    """
    return connection.run("SELECT location, records FROM weather_locations").fetchall()


def ping(connection: Connection) -> None:
    """Any answer will do; raises as Connection.run()."""
    connection.run("SELECT 1")
