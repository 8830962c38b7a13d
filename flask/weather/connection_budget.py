"""Whether all replicas' pools fit into what PostgreSQL allows, asked once at the start."""

import dataclasses

from weather.connect import Connection
from weather.pool import Database
from weather.settings import Settings
from weather.waiting import deadline_from_now

RESERVED_CONNECTIONS = 5  # for the populator, the gate and people with psql


def budget_problem(settings: Settings) -> str | None:
    """Compare all replicas' pools with what PostgreSQL allows; None if they fit, else one line.

    Raises UnavailableError when PostgreSQL can't be asked.
    """
    if not settings.use_pooling:
        return None
    limit, superuser, reserved = _read_limits(settings)
    available = limit - superuser - reserved - RESERVED_CONNECTIONS
    wanted = settings.flask_replicas * settings.pool_maxconn
    if wanted <= available:
        return None
    return (
        f"POOL_MAXCONN is '{settings.pool_maxconn}': FLASK_REPLICAS {settings.flask_replicas} x "
        f"POOL_MAXCONN {settings.pool_maxconn} = {wanted} connections, but PostgreSQL has "
        f"{available} for them (max_connections {limit} - superuser_reserved_connections "
        f"{superuser} - reserved_connections {reserved} - {RESERVED_CONNECTIONS} for other "
        f"clients): expected POOL_MAXCONN of at most {max(available, 0) // settings.flask_replicas}"
        f", fewer replicas, or max_connections of at least {limit + wanted - available}"
    )


def _read_limits(settings: Settings) -> tuple[int, int, int]:
    def query(connection: Connection) -> tuple[int, int, int]:
        return connection.run(
            "SELECT current_setting('max_connections')::int,"
            " current_setting('superuser_reserved_connections')::int,"
            # PostgreSQL 16 and newer
            " coalesce(current_setting('reserved_connections', true), '0')::int"
        ).fetchone()

    without_pool = dataclasses.replace(settings, use_pooling=False)
    return Database(without_pool).read(query, deadline_from_now())
