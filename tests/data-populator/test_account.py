"""The role that data-populator makes for the application reads; nothing shows its password."""

from contextlib import closing

import psycopg2
import pytest
from databases import APP_PASSWORD, assert_only_reads, connect
from populating import populate


@pytest.fixture
def loaded(database):
    """A database with 1,000 rows."""
    code, output = populate(database, TOTAL_RECORDS=1000)
    assert code == 0, output
    return database


def connect_as_app(database, password=APP_PASSWORD):
    account = {"POSTGRES_USER": "weather_app", "POSTGRES_PASSWORD": password}
    return closing(connect(database.environ | account))


def test_the_applications_role_only_reads(loaded):
    with connect_as_app(loaded) as connection:
        assert_only_reads(connection)


def test_a_table_that_was_loaded_before_there_was_a_role_gets_one(loaded):
    loaded.execute("DROP OWNED BY weather_app; DROP ROLE weather_app")
    assert populate(loaded, TOTAL_RECORDS=1000)[0] == 0
    with connect_as_app(loaded) as connection:
        assert_only_reads(connection)


def test_another_password_takes_effect_and_no_log_has_it(loaded):
    loaded.execute(f"ALTER DATABASE {loaded.name} SET log_statement = 'all'")
    code, output = populate(loaded, TOTAL_RECORDS=1000, POSTGRES_APP_PASSWORD="another-word")
    assert code == 0, output
    connect_as_app(loaded, "another-word").__enter__().close()
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        connect_as_app(loaded)
    log = loaded.server.server.log_path.read_text()
    assert 'ALTER ROLE "weather_app" LOGIN PASSWORD' in log
    assert "another-word" not in log + output


def test_the_owner_is_never_made_the_applications_role(database):
    code, output = populate(database, POSTGRES_APP_USER=database.environ["POSTGRES_USER"])
    assert (code, output) == (
        2,
        "data-populator: POSTGRES_APP_USER is 'tester': expected another role than POSTGRES_USER\n",
    )


def test_a_role_with_more_rights_is_refused(database):
    database.execute("CREATE ROLE mighty CREATEDB")
    try:
        code, output = populate(database, TOTAL_RECORDS=1000, POSTGRES_APP_USER="mighty")
        assert database.value("SELECT NOT rolcanlogin FROM pg_roles WHERE rolname = 'mighty'")
    finally:
        database.execute("DROP ROLE mighty")
    assert code == 1
    assert output.startswith("data-populator: POSTGRES_APP_USER is 'mighty': expected a role that")
    assert output.count("\n") == 1
