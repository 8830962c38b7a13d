"""Makes the role that the application logs in as: it may read what it serves, and nothing else."""

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from populator.ledger import LoadRefusedError

# What the replicas and the gate ask for.
TABLES = (
    *("weather_data", "weather_locations"),
    *("weather_load", "weather_load_segments", "weather_full_check"),
)
# What data-query calls.
FUNCTIONS = ("weather_state()", "weather_record_full_check(text)")
# Everybody may make temporary tables otherwise, and so fill the disk.
NO_TEMPORARY_TABLES = "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC"
POWERS = """
SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
FROM pg_roles WHERE rolname = %s
"""


def make_reader(connection: psycopg2.extensions.connection, name: str, password: str) -> None:
    """Make the role if there is none, give it this password and the right to read TABLES.

    Raises LoadRefusedError where the role exists and may do more than log in.
    """
    role = sql.Identifier(name)
    with connection, connection.cursor() as cursor:
        cursor.execute(POWERS, (name,))
        powers = cursor.fetchone()
        if powers is None:
            cursor.execute(sql.SQL("CREATE ROLE {}").format(role))
        elif powers[0]:
            raise LoadRefusedError(
                f"POSTGRES_APP_USER is '{name}': expected a role that may only read, this one is "
                "a superuser or may make roles, databases or copies: take another name"
            )
        # PostgreSQL may log the statement: it has the verifier, not the password.
        verifier = encrypt_password(password, name, connection, "scram-sha-256")
        cursor.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD %s").format(role), (verifier,))
        tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        cursor.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(tables, role))
        functions = sql.SQL(", ").join(map(sql.SQL, FUNCTIONS))
        cursor.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(functions, role))
        database = sql.Identifier(connection.info.dbname)
        cursor.execute(sql.SQL(NO_TEMPORARY_TABLES).format(database))
