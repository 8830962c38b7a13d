"""Makes the tables and the indexes of schema.sql."""

import functools
import re
from pathlib import Path

import psycopg2

from populator.environment import PostgresSettings
from populator.statements import execute, fetch_value, run_in_parallel

SCHEMA = Path(__file__).parents[1] / "schema.sql"

# Two helpers for the larger index, so that both end at about the same time (docs/decisions.md);
# below 32 MB for each of the three processes PostgreSQL starts fewer.
BUILD_SETTINGS = {
    "id index": "SET max_parallel_maintenance_workers = 0",
    "covering index": "SET max_parallel_maintenance_workers = 2; SET maintenance_work_mem = '96MB'",
}
HAS_PRIMARY_KEY = """
SELECT EXISTS (SELECT FROM pg_constraint
               WHERE conrelid = 'weather_data'::regclass AND contype = 'p')
"""


def create_tables(connection: psycopg2.extensions.connection) -> None:
    """Create what is missing; harmless where everything is there."""
    execute(connection, _section("tables"))


def drop_indexes(connection: psycopg2.extensions.connection) -> None:
    execute(connection, _section("drop indexes"))


def build_indexes(connection: psycopg2.extensions.connection, postgres: PostgresSettings) -> None:
    """Build what is missing of the primary key and the covering index, both at once."""
    run_in_parallel(postgres, [functools.partial(_build, name) for name in BUILD_SETTINGS])
    if not fetch_value(connection, HAS_PRIMARY_KEY):
        execute(connection, _section("primary key"))


def _build(name: str, connection: psycopg2.extensions.connection) -> None:
    execute(connection, BUILD_SETTINGS[name])
    execute(connection, _section(name))


def _section(name: str) -> str:
    """The statements of schema.sql below the line ``-- section: name``."""
    text = SCHEMA.read_text(encoding="utf-8")
    return re.search(rf"^-- section: {name}$(.*?)(?=^-- section: |\Z)", text, re.M | re.S)[1]
