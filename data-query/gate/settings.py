"""The gate's settings, read from the environment once and validated."""

import os
from dataclasses import dataclass

from gate.environment import Environ, PostgresSettings, read_total_records


@dataclass(frozen=True)
class Settings:
    """Where PostgreSQL is, and how many rows weather_data must hold."""

    postgres: PostgresSettings
    total_records: int

    @classmethod
    def from_env(cls, environ: Environ = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        return cls(
            postgres=PostgresSettings.from_env(environ),
            total_records=read_total_records(environ),
        )
