"""The populator's settings, read from the environment once and validated."""

import os
from dataclasses import dataclass, field

from populator.environment import (
    Environ,
    PostgresSettings,
    bad_value,
    read_integer,
    read_password,
    read_text,
    read_total_records,
)


@dataclass(frozen=True)
class Settings:
    """Where PostgreSQL is, who may read the table later, and what it is to hold.

    total_records and batch_size are rows; batch_size is what one COPY commits.
    """

    postgres: PostgresSettings
    app_user: str
    app_password: str = field(repr=False)
    total_records: int
    batch_size: int
    seed: int

    @classmethod
    def from_env(cls, environ: Environ = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        postgres = PostgresSettings.from_env(environ)
        return cls(
            postgres=postgres,
            app_user=_app_user(environ, postgres.user),
            app_password=read_password(environ, "POSTGRES_APP_PASSWORD"),
            total_records=read_total_records(environ),
            batch_size=read_integer(environ, "BATCH_SIZE", 100_000, 1_000, 1_000_000),
            seed=read_integer(environ, "SEED", 42, 0, 2**63 - 1),
        )


def _app_user(environ: Environ, owner: str) -> str:
    """POSTGRES_APP_USER: the role that may only read; never the owner, who may do everything."""
    name = read_text(environ, "POSTGRES_APP_USER", "weather_app")
    if name == owner:
        raise bad_value("POSTGRES_APP_USER", name, "another role than POSTGRES_USER")
    return name
