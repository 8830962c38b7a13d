"""The populator's settings, read from the environment once and validated."""

import os
from dataclasses import dataclass

from populator.environment import Environ, PostgresSettings, read_integer, read_total_records


@dataclass(frozen=True)
class Settings:
    """Where PostgreSQL is, and what the table is to hold.

    total_records and batch_size are rows; batch_size is what one COPY commits.
    """

    postgres: PostgresSettings
    total_records: int
    batch_size: int
    seed: int

    @classmethod
    def from_env(cls, environ: Environ = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        return cls(
            postgres=PostgresSettings.from_env(environ),
            total_records=read_total_records(environ),
            batch_size=read_integer(environ, "BATCH_SIZE", 100_000, 1_000, 1_000_000),
            seed=read_integer(environ, "SEED", 42, 0, 2**63 - 1),
        )
