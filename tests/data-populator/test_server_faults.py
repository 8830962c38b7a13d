"""The populator while its server is late, dies, or runs out of disk."""

import os
import pwd
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from databases import Databases, postgres_server
from polling import poll
from populating import (
    assert_complete,
    finish,
    loaded_records,
    populate,
    start,
)
from processes import unprivileged_user

ROWS = 1_000_000


@pytest.fixture(scope="module")
def own_databases():
    """Databases on a server that a test may kill."""
    with postgres_server() as server:
        yield Databases(server)


@pytest.fixture
def database(own_databases):
    database = own_databases.make()
    yield database
    own_databases.drop(database)


def test_a_server_that_comes_up_late_is_waited_for(own_databases, database):
    server = own_databases.server
    database.disconnect()
    server.server.stop()
    with socket.create_server(("127.0.0.1", server.port)) as listener:
        listener.settimeout(30)
        populator = start(database, TOTAL_RECORDS=1000)
        listener.accept()[0].close()  # the first attempt: nobody is there yet
    server.start()
    code, output = finish(populator)
    assert code == 0, output
    assert_complete(database, 1000)


def test_a_server_killed_in_mid_load_is_told_and_the_next_run_completes(own_databases, database):
    server = own_databases.server
    populator = start(database, TOTAL_RECORDS=ROWS, BATCH_SIZE=20_000)
    poll(lambda: loaded_records(database) >= 100_000, 30)
    # Commits of batches don't wait for the disk: what was seen is safe once it is there.
    seen = database.value("SELECT pg_current_wal_insert_lsn()")
    poll(lambda: database.value("SELECT pg_current_wal_flush_lsn() >= %s", seen))
    database.disconnect()
    server.server.kill()
    code, output = finish(populator)
    server.server.stop()
    server.start()
    assert code == 1
    assert "data-populator: PostgreSQL: " in output
    assert "run again to go on from the last batch" in output
    loaded = loaded_records(database)
    assert 100_000 <= loaded < ROWS
    assert database.value("SELECT count(*) FROM weather_data") == loaded
    code, output = populate(database, TOTAL_RECORDS=ROWS)
    assert code == 0, output
    assert_complete(database, ROWS)


@pytest.fixture
def small_disk(own_databases):
    """A tablespace on a file system of 40 MB, and what makes it larger."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    owner = unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as folder:
        Path(folder).chmod(0o755)
        disk = Path(folder, "disk")
        disk.mkdir()
        options = f"size=40m,uid={pwd.getpwnam(owner).pw_uid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
        try:
            own_databases.administrate(f"CREATE TABLESPACE small LOCATION '{disk}'")
            yield lambda: subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
            own_databases.administrate("DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", disk], check=True)


def test_a_load_that_has_ended_survives_a_kill_of_the_server(own_databases, database):
    server = own_databases.server
    code, output = populate(database, TOTAL_RECORDS=ROWS)
    server.server.kill()
    assert code == 0, output
    database.disconnect()
    server.server.stop()
    server.start()
    assert_complete(database, ROWS)
    assert database.value("SELECT served_records FROM weather_load") == ROWS


def test_a_full_disk_is_told_and_the_next_run_completes(own_databases, small_disk):
    database = own_databases.make(tablespace="small")
    try:
        code, output = populate(database, TOTAL_RECORDS=ROWS)
        assert code == 1
        assert "No space left on device" in output
        assert "run again to go on from the last batch" in output
        small_disk()
        code, output = populate(database, TOTAL_RECORDS=ROWS)
        assert code == 0, output
        assert_complete(database, ROWS)
    finally:
        own_databases.drop(database)
