"""The populator against a real PostgreSQL: exactly once, whatever happens on the way."""

import random
import re
import signal
import time
from contextlib import closing

import psycopg2
import pytest
from polling import poll
from populate_db import origin
from populating import assert_complete, finish, loaded_records, populate, start
from readme_messages import is_printed, messages

ROWS = 400_000
INTERRUPTIONS = 20

# Timestamps relative to the period's end, so that loads of different days compare.
CHECKSUM = """
SELECT md5(string_agg(block, '' ORDER BY n)) FROM (
    SELECT id / 1000 AS n, md5(string_agg(
        concat_ws(',', id, location, temperature, humidity, wind_speed, period_end - timestamp),
        ';' ORDER BY id)) AS block
    FROM weather_data, weather_load GROUP BY 1
) AS blocks
"""


def heap_fetches(database):
    """How many rows an index-only scan of the whole table must look up in the table itself."""
    database.execute("SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0")
    plan = database.value(
        "EXPLAIN (ANALYZE, FORMAT json) SELECT sum(temperature) FROM weather_data"
        " WHERE location > ''"
    )
    scan = plan[0]["Plan"]["Plans"][0]
    assert scan["Node Type"] == "Index Only Scan"
    return scan["Heap Fetches"]


@pytest.fixture(scope="module")
def reference(databases):
    """The checksum of an uninterrupted load of ROWS rows."""
    database = databases.make()
    assert populate(database, TOTAL_RECORDS=ROWS)[0] == 0
    checksum = database.value(CHECKSUM)
    databases.drop(database)
    return checksum


def test_a_load_says_what_it_does_and_leaves_a_table_ready_to_serve(database):
    code, output = populate(database, TOTAL_RECORDS=30_000)
    assert code == 0, output
    assert "30000/30000 records inserted\n" in output
    assert output.endswith("Database connection closed\n")
    assert_complete(database, 30_000)
    indexes = database.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'weather_data'")
    assert any("(location) INCLUDE (temperature)" in definition for (definition,) in indexes)
    assert any("UNIQUE INDEX weather_data_pkey" in definition for (definition,) in indexes)
    assert heap_fetches(database) == 0
    assert database.value("SELECT weather_state()"), "not every page with a row is frozen"
    assert database.value("SELECT reltuples FROM pg_class WHERE relname = 'weather_data'") == 30_000


def test_a_second_run_finds_everything_there(database):
    populate(database, TOTAL_RECORDS=30_000)
    wal = database.value("SELECT pg_current_wal_insert_lsn()")
    assert populate(database, TOTAL_RECORDS=30_000) == (
        0,
        "30000/30000 records inserted\nDatabase connection closed\n",
    )
    # nothing was written but a background process's few records
    assert database.value("SELECT pg_current_wal_insert_lsn() - %s", wal) < 100_000


@pytest.mark.parametrize("batch_size", [7_777, 250_000])
def test_any_batch_size_gives_the_same_table(database, reference, batch_size):
    assert populate(database, TOTAL_RECORDS=ROWS, BATCH_SIZE=batch_size)[0] == 0
    assert database.value(CHECKSUM) == reference


def test_a_larger_total_adds_the_difference(database):
    assert populate(database, TOTAL_RECORDS=50_001)[0] == 0
    before = database.value(CHECKSUM)
    assert_complete(database, 50_001)
    code, output = populate(database, TOTAL_RECORDS=150_000)
    assert code == 0, output
    assert "99,999 rows copied" in output
    assert_complete(database, 150_000)
    assert heap_fetches(database) == 0
    database.execute("DELETE FROM weather_data WHERE id > 50001")
    assert database.value(CHECKSUM) == before


def indexes(database):
    """The indexes of weather_data, other ones after they were built anew."""
    return database.rows(
        "SELECT indexrelid FROM pg_index WHERE indrelid = 'weather_data'::regclass ORDER BY 1"
    )


@pytest.mark.parametrize(
    ("rows", "kept"), [(15_000, True), (30_000, False)], ids=["fewer", "more than there are"]
)
def test_indexes_are_built_anew_for_more_rows_than_there_are(database, rows, kept):
    assert populate(database, TOTAL_RECORDS=10_000)[0] == 0
    before = indexes(database)
    killed = "INSERT INTO weather_data SELECT 20000, location, 0, 50, 5, now() FROM weather_data"
    database.execute(f"BEGIN; {killed} LIMIT 1; ROLLBACK")
    database.disconnect()
    assert populate(database, TOTAL_RECORDS=rows)[0] == 0
    assert (indexes(database) == before) == kept
    assert heap_fetches(database) == 0
    assert database.value("SELECT weather_state()")


def test_a_served_table_grows_without_a_lock_that_a_reader_notices(database):
    assert populate(database, TOTAL_RECORDS=10_000)[0] == 0
    before = indexes(database)
    database.execute(f"ALTER DATABASE {database.name} SET lock_timeout = '5s'")
    with database.connect() as reader, reader.cursor() as cursor:
        cursor.execute("SELECT FROM weather_data, weather_locations LIMIT 1")
        # its transaction goes on, and holds up whoever would drop or truncate
        code, output = populate(database, TOTAL_RECORDS=30_000)
    assert code == 0, output
    assert_complete(database, 30_000)
    assert indexes(database) == before


def test_a_client_that_connects_for_each_query_serves_too(database):
    assert populate(database, TOTAL_RECORDS=10_000)[0] == 0
    before = indexes(database)
    database.rows("SELECT avg(temperature) FROM weather_data WHERE location = 'Amyborough'")
    database.disconnect()
    assert populate(database, TOTAL_RECORDS=30_000)[0] == 0
    assert indexes(database) == before


def test_twenty_kills_later_every_row_is_there_once(database, reference):
    moments = random.Random(5)
    for _ in range(INTERRUPTIONS):
        process = start(database, TOTAL_RECORDS=ROWS, BATCH_SIZE=10_000)
        goal = loaded_records(database) + moments.randrange(1, 25_000)
        patience = time.monotonic() + moments.uniform(0.2, 2.0)
        poll(
            lambda goal=goal, process=process, patience=patience: (
                loaded_records(database) >= min(goal, ROWS)
                or process.poll() is not None
                or time.monotonic() > patience
            ),
            30,
        )
        process.kill()
        finish(process)
    code, output = populate(database, TOTAL_RECORDS=ROWS)
    assert code == 0, output
    assert_complete(database, ROWS)
    assert database.value(CHECKSUM) == reference


@pytest.mark.parametrize("populators", [2, 5])
def test_populators_at_once_load_every_row_once(database, reference, populators):
    processes = [start(database, TOTAL_RECORDS=ROWS) for _ in range(populators)]
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [0] * populators, results
    assert sum(f"{ROWS:,} rows copied" in output for _, output in results) == 1
    assert_complete(database, ROWS)
    assert database.value(CHECKSUM) == reference
    assert heap_fetches(database) == 0


def test_a_batch_that_commits_after_its_populator_died_is_not_loaded_again(database, reference):
    """The claim in the ledger, not the loader's lock, is what keeps a row from coming twice."""
    assert populate(database, TOTAL_RECORDS=1_000)[0] == 0
    with database.connect() as survivor, survivor.cursor() as cursor:
        # half of a batch that the next run will want
        cursor.execute("INSERT INTO weather_load_batches VALUES (int8range(1001, 1101))")
        process = start(database, TOTAL_RECORDS=2_000, BATCH_SIZE=1_000)
        poll(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 30)
        # the survivor's own rows; what they hold does not matter here
        cursor.execute(
            """INSERT INTO weather_data SELECT n, (SELECT min(location) FROM weather_locations),
               0, 50, 5, now() FROM generate_series(1001, 1100) AS n"""
        )
    code, output = finish(process)
    assert code == 0, output
    assert database.rows("SELECT count(*), count(DISTINCT id) FROM weather_data") == [
        (2_000, 2_000)
    ]


def test_sigterm_stops_at_once_and_rolls_the_batch_back(database):
    process = start(database, TOTAL_RECORDS=20_000_000)
    poll(lambda: loaded_records(database) >= 200_000, 30)
    process.send_signal(signal.SIGTERM)
    signalled = time.monotonic()
    code, output = finish(process)
    assert time.monotonic() - signalled < 2
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in output
    poll(
        lambda: database.value(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'data-populator'"
        ),
        30,
    )
    assert database.value("SELECT count(*) FROM weather_data") == loaded_records(database)


def test_a_kill_while_an_index_is_built_frees_the_table(database):
    process = start(database, TOTAL_RECORDS=2_000_000)
    building = "SELECT count(*) > 0 FROM pg_stat_progress_create_index"
    poll(lambda: database.value(building), 30)
    process.kill()
    finish(process)
    poll(lambda: not database.value(building), seconds=5)
    code, output = populate(database, TOTAL_RECORDS=2_000_000)
    assert code == 0, output
    assert_complete(database, 2_000_000)


WAYS_TO_START_OVER = (
    r"start over with docker compose down -v \(Compose\), rm -r \.local \(local stack\) or the SQL"
    r" (DROP TABLE IF EXISTS .+)"
)


@pytest.mark.parametrize(
    ("change", "variables", "reason"),
    [
        (
            "SELECT",
            {"TOTAL_RECORDS": 999},
            "TOTAL_RECORDS is 999, but weather_data was loaded for 1000 rows and rows are never"
            " deleted: set it to 1000 or more, or ",
        ),
        (
            "SELECT",
            {"SEED": 7},
            "SEED is 7, but weather_data was loaded with SEED=42: keep that seed, or ",
        ),
        (
            "TRUNCATE weather_load, weather_load_batches",
            {},
            r"weather_data holds rows that were not loaded by data-populator"
            r" \(its ledger is empty\): move them away, or ",
        ),
        (
            "TRUNCATE weather_data",
            {},
            "weather_data is empty, but its ledger says that rows are in; ",
        ),
    ],
    ids=["fewer rows", "another seed", "rows of somebody else", "a ledger without its rows"],
)
def test_what_contradicts_the_table_is_refused(database, change, variables, reason):
    assert populate(database, TOTAL_RECORDS=1000)[0] == 0
    database.execute(change)
    rows = database.rows("SELECT * FROM weather_data")
    code, output = populate(database, **{"TOTAL_RECORDS": 1000, **variables})
    assert code == 1
    line = re.fullmatch(f"data-populator: {reason}{WAYS_TO_START_OVER}\n", output)
    assert line, output
    assert database.rows("SELECT * FROM weather_data") == rows
    database.execute(line[1])
    assert database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {"TOTAL_RECORDS": "10M"},
            "TOTAL_RECORDS is '10M': expected a whole number from 1 to 2147483647",
        ),
        (
            {"TOTAL_RECORDS": "9" * 5_000},  # int() refuses so many with an error of its own
            f"TOTAL_RECORDS is '{'9' * 200}'...: expected a whole number from 1 to 2147483647",
        ),
        ({"BATCH_SIZE": 0}, "BATCH_SIZE is '0': expected a whole number from 1000 to 1000000"),
    ],
)
def test_a_bad_setting_is_one_line(database, variables, line):
    code, output = populate(database, **variables)
    assert (code, output) == (2, f"data-populator: {line}\n")


def test_the_password_may_come_from_a_file(database, tmp_path):
    secret = tmp_path / "password"
    secret.write_text(database.environ["POSTGRES_PASSWORD"] + "\n")
    code, output = populate(
        database, POSTGRES_PASSWORD="", POSTGRES_PASSWORD_FILE=secret, TOTAL_RECORDS=1000
    )
    assert code == 0, output


def test_a_wrong_password_is_told_at_once(database):
    process = start(database, POSTGRES_PASSWORD="wrong", TOTAL_RECORDS=1000)
    code, output = finish(process, timeout=30)  # a server that still starts gets 60 s
    assert code == 1
    assert "password authentication failed" in output
    assert output.count("\n") == 1


def test_a_cut_connection_is_told_and_the_next_run_completes(database, reference):
    process = start(database, TOTAL_RECORDS=ROWS, BATCH_SIZE=10_000)
    poll(lambda: loaded_records(database) >= 50_000, 30)
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'data-populator'"
    )
    code, output = finish(process)
    assert code == 1
    # which of the two is a matter of what the last packet met, the cut itself or a closed socket
    assert re.fullmatch(
        r"data-populator: PostgreSQL: "
        r"(terminating connection due to administrator command|server closed the connection).*"
        r"; run again to go on from the last batch\n",
        output,
    )
    assert populate(database, TOTAL_RECORDS=ROWS)[0] == 0
    assert database.value(CHECKSUM) == reference


def test_a_failed_rollback_does_not_hide_what_began_it(database):
    with (
        closing(database.connect()) as connection,
        pytest.raises(psycopg2.InterfaceError, match="connection already closed") as raised,
        connection,
    ):
        connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert origin(raised.value).startswith("server closed the connection unexpectedly")


def test_a_role_without_rights_gets_one_line(database):
    database.execute("CREATE ROLE visitor LOGIN PASSWORD 'visitor'")
    try:
        code, output = populate(
            database, POSTGRES_USER="visitor", POSTGRES_PASSWORD="visitor", TOTAL_RECORDS=1000
        )
    finally:
        database.execute("DROP ROLE visitor")
    assert code == 1
    assert "permission denied for schema public" in output
    assert output.count("\n") == 1


def test_an_exit_closes_every_connection(database):
    populate(database, TOTAL_RECORDS=1000)
    poll(
        lambda: database.value(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'data-populator'"
        ),
        30,
    )
    with pytest.raises(psycopg2.errors.UniqueViolation):
        database.execute("INSERT INTO weather_data SELECT * FROM weather_data LIMIT 1")


@pytest.mark.parametrize("message", messages("data-populator"))
def test_a_message_of_the_readme_is_printed_by_the_program(message):
    assert is_printed(message, "data-populator")
