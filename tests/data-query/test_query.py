"""The gate against a good table and against every mutant of it."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from databases import APP_PASSWORD, create_schema
from populating import populate
from readme_messages import is_printed, messages

QUERY = Path(__file__).parents[2] / "data-query" / "query_db.py"
ROWS = 50_000
ACCOUNT = {"POSTGRES_USER": "weather_app", "POSTGRES_PASSWORD": APP_PASSWORD}


CHECKED = f"{ROWS} rows checked in "
UNCHANGED = f"{ROWS} rows unchanged since all were checked on "
ONCE_MORE = "The next start reads all rows again: "


def query(database, *options, **variables):
    return subprocess.run(
        [sys.executable, QUERY, *options],
        env={**os.environ, "TOTAL_RECORDS": str(ROWS), **database.environ, **ACCOUNT, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def loaded(databases):
    """A database with ROWS rows, all checked; the mutants are copies of it."""
    database = databases.make()
    assert populate(database, TOTAL_RECORDS=ROWS)[0] == 0
    gate = query(database)
    assert gate.stdout.startswith(CHECKED)
    assert ONCE_MORE not in gate.stdout
    database.disconnect()  # a template must have no connections
    yield database
    databases.drop(database)


@pytest.fixture
def mutant(databases, loaded):
    """A copy of the loaded database."""
    database = databases.make(template=loaded)
    yield database
    databases.drop(database)


def test_good_data_passes_with_five_averages(mutant):
    gate = query(mutant)
    assert (gate.returncode, gate.stderr) == (0, "")
    assert gate.stdout.startswith(UNCHANGED)
    averages = re.findall(r"^Average temperature in (.+): (-?\d+\.\d\d)°C$", gate.stdout, re.M)
    assert len({location for location, _ in averages}) == 5
    for location, average in averages:
        assert float(average) == pytest.approx(
            mutant.value("SELECT avg(temperature) FROM weather_data WHERE location = %s", location),
            abs=0.0051,
        )
        assert location in gate.stdout.splitlines()[2]


NULLABLE = "ALTER TABLE weather_data ALTER temperature DROP NOT NULL;"
DROP_PRIMARY_KEY = "ALTER TABLE weather_data DROP CONSTRAINT weather_data_pkey;"
NO_PRIMARY_KEY = r"weather_data has no valid primary key \(id\)"
DROP_COVERING_INDEX = "DROP INDEX weather_data_location_temperature;"
NO_COVERING_INDEX = (
    "weather_data has no valid index weather_data_location_temperature"
    r" \(location\) INCLUDE \(temperature\)"
)
CHANGED = {
    "a row missing": (
        "DELETE FROM weather_data WHERE id = 777",
        "weather_data holds 49999 rows, expected 50000",
    ),
    "a row too many": (
        "INSERT INTO weather_data SELECT 50001, location, temperature, humidity, wind_speed,"
        " timestamp FROM weather_data WHERE id = 1",
        "weather_data holds 50001 rows, expected 50000",
    ),
    "a row replaced by a double": (
        "UPDATE weather_data SET id = 60000 WHERE id = 1",
        "ids run from 2 to 60000, expected 1 to 50000",
    ),
    "a NULL": (
        NULLABLE + "UPDATE weather_data SET temperature = NULL WHERE id = 5",
        "1 rows have a NULL",
    ),
    "too hot": (
        "UPDATE weather_data SET temperature = 40.01 WHERE id IN (5, 6)",
        "2 rows have a temperature outside -10..40 degC",
    ),
    "not a number": (
        "UPDATE weather_data SET temperature = 'NaN' WHERE id = 5",
        "1 rows have a temperature outside -10..40 degC",
    ),
    "too dry": (
        "UPDATE weather_data SET humidity = 19.99 WHERE id = 5",
        "1 rows have a humidity outside 20..100 %",
    ),
    "too windy": (
        "UPDATE weather_data SET wind_speed = 20.01 WHERE id = 5",
        "1 rows have a wind_speed outside 0..20 m/s",
    ),
    "too old": (
        "UPDATE weather_data SET timestamp = timestamp - interval '5 years' WHERE id = 5",
        "1 rows have a timestamp outside the 5 years before the load",
    ),
    "another temperature": (
        "UPDATE weather_data SET temperature = temperature + CASE WHEN temperature > 39 THEN -0.01"
        " ELSE 0.01 END WHERE id = 5",
        r".+ has (\d+) rows whose temperatures add up to [-\d.]+, generated were \1 rows and",
    ),
    "another location": (
        "UPDATE weather_data SET location = 'Atlantis' WHERE id = 5",
        r".+ has \d+ rows whose temperatures add up to [-\d.]+, generated were \d+ rows and",
    ),
    "an id twice, without the primary key": (
        DROP_PRIMARY_KEY + "UPDATE weather_data SET id = 6 WHERE id = 5",
        NO_PRIMARY_KEY,
    ),
    "no primary key": (DROP_PRIMARY_KEY, NO_PRIMARY_KEY),
    "a primary key that is not of the id alone": (
        DROP_PRIMARY_KEY + "ALTER TABLE weather_data ADD PRIMARY KEY (id, location)",
        NO_PRIMARY_KEY,
    ),
    "a unique index in place of the primary key": (
        DROP_PRIMARY_KEY + "CREATE UNIQUE INDEX weather_data_pkey ON weather_data (id)",
        NO_PRIMARY_KEY,
    ),
    "an invalid primary key": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'weather_data_pkey'::regclass",
        NO_PRIMARY_KEY,
    ),
    "a primary key that takes no new rows": (
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'weather_data_pkey'::regclass",
        NO_PRIMARY_KEY,
    ),
    "no covering index": (DROP_COVERING_INDEX, NO_COVERING_INDEX),
    "an index that does not cover": (
        DROP_COVERING_INDEX
        + "CREATE INDEX weather_data_location_temperature ON weather_data (location)",
        NO_COVERING_INDEX,
    ),
    "an index that also sorts the temperatures": (
        DROP_COVERING_INDEX
        + "CREATE INDEX weather_data_location_temperature ON weather_data (location, temperature)",
        NO_COVERING_INDEX,
    ),
    "an index without some rows": (
        DROP_COVERING_INDEX
        + "CREATE INDEX weather_data_location_temperature ON weather_data (location)"
        " INCLUDE (temperature) WITH (fillfactor = 100) WHERE (location <> 'Atlantis')",
        NO_COVERING_INDEX,
    ),
    "the index of another table": (
        DROP_COVERING_INDEX + "CREATE TABLE another (LIKE weather_data);"
        "CREATE INDEX weather_data_location_temperature ON another (location)"
        " INCLUDE (temperature)",
        NO_COVERING_INDEX,
    ),
    "an invalid index": (
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'weather_data_location_temperature'::regclass",
        NO_COVERING_INDEX,
    ),
    "a server that reads the table for the query": (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_indexonlyscan = off',"
        " current_database()); END $$",
        "the query's plan is .+, expected Index Only Scan on weather_data_location_temperature",
    ),
    "no visibility map": (
        "UPDATE weather_data SET humidity = humidity",
        r"the index-only scan visits the table \(\d+ heap fetches\): VACUUM weather_data",
    ),
    "an empty table": (
        "TRUNCATE weather_data",
        "weather_data holds 0 rows, expected 50000",
    ),
    "no table": (
        "DROP TABLE weather_data",
        "table weather_data does not exist: run data-populator first",
    ),
    "no ledger": (
        "DROP TABLE weather_load",
        "table weather_load does not exist: run data-populator first",
    ),
    "an empty ledger": ("TRUNCATE weather_load", "weather_load is empty: run data-populator first"),
}


@pytest.mark.parametrize("mutation", CHANGED)
def test_a_mutant_fails_with_its_own_reason(mutant, mutation):
    statement, reason = CHANGED[mutation]
    mutant.execute(statement)
    gate = query(mutant)
    assert gate.returncode == 1, gate.stdout
    assert gate.stdout == ""
    assert re.fullmatch(f"data-query: {reason}.*\n", gate.stderr), gate.stderr


def test_asked_for_it_every_row_is_read(mutant):
    gate = query(mutant, "--full")
    assert (gate.returncode, gate.stderr) == (0, "")
    assert gate.stdout.startswith(CHECKED)


def test_vacuum_does_not_hide_a_change(mutant):
    """Nor does the number of frozen pages tell it: the changed row stays on its page."""
    vacuum = "VACUUM (FREEZE, INDEX_CLEANUP on) weather_data"
    mutant.execute("DELETE FROM weather_data WHERE id = 5")  # makes room there
    mutant.execute(vacuum)
    mutant.execute("UPDATE weather_full_check SET state = weather_state()")
    mutant.execute("UPDATE weather_data SET humidity = 50 WHERE id = 6")
    mutant.execute(vacuum)
    assert query(mutant).stderr == "data-query: weather_data holds 49999 rows, expected 50000\n"


def test_what_only_looks_changed_is_read_once(mutant):
    mutant.execute("BEGIN; SELECT FROM weather_data WHERE id = 5 FOR UPDATE; COMMIT")
    gate = query(mutant)
    assert gate.stdout.startswith(CHECKED)
    assert ONCE_MORE in gate.stdout
    mutant.execute("VACUUM (FREEZE) weather_data")
    assert [query(mutant).stdout.split(" rows ")[1][:7] for _ in range(2)] == ["checked", "unchang"]


def test_a_list_of_locations_that_was_changed_is_found(mutant):
    [(location,)] = mutant.rows("SELECT min(location) FROM weather_locations")
    mutant.execute("UPDATE weather_locations SET records = 0 WHERE location = %s", location)
    assert query(mutant).stderr.startswith(f"data-query: {location} has ")


def test_the_sample_finds_what_nobody_could_tell(mutant):
    """Rows, their sums and the record of the check agree; none of it is what the seed makes."""
    mutant.execute(
        "UPDATE weather_data SET temperature = 1;"
        "UPDATE weather_locations SET temperature_sum = records"
    )
    mutant.execute("VACUUM (FREEZE) weather_data, weather_locations")
    mutant.execute("UPDATE weather_full_check SET state = weather_state()")
    gate = query(mutant)
    assert re.fullmatch(r"data-query: .+ has (\d+) rows .+ \1\.00, generated .+\n", gate.stderr)


def test_no_other_state_than_the_present_can_be_recorded(mutant):
    for state in ("another", None):
        assert not mutant.value("SELECT weather_record_full_check(%s)", state)
    assert query(mutant).stdout.startswith(UNCHANGED)


def test_without_its_extension_every_check_is_full(mutant):
    mutant.execute("DROP EXTENSION pg_visibility")
    for _ in range(2):
        gate = query(mutant)
        assert gate.stdout.startswith(CHECKED)
        assert ONCE_MORE in gate.stdout


def test_the_schema_run_anew_mends_the_indexes(mutant):
    mutant.execute(DROP_PRIMARY_KEY + DROP_COVERING_INDEX)
    with closing(mutant.connect()) as connection:
        create_schema(connection)
    gate = query(mutant)
    assert (gate.returncode, gate.stderr) == (0, "")


def test_no_server_fails_with_its_reason(mutant):
    gate = query(mutant, POSTGRES_PORT="1")
    assert gate.returncode == 1
    assert re.fullmatch(r"data-query: PostgreSQL: .*port 1 failed: .*\n", gate.stderr), gate.stderr


def test_a_bad_setting_is_one_line(mutant):
    gate = query(mutant, TOTAL_RECORDS="9" * 5_000)  # int() refuses it with an error of its own
    assert gate.returncode == 2
    expected = "expected a whole number from 1 to 2147483647"
    assert gate.stderr == f"data-query: TOTAL_RECORDS is '{'9' * 200}'...: {expected}\n"


@pytest.mark.parametrize("message", messages("data-query"))
def test_a_message_of_the_readme_is_printed_by_the_program(message):
    assert is_printed(message, "data-query")
