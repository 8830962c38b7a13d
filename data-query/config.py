"""The gate's settings, read from the environment once and validated."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class ConfigError(ValueError):
    """A variable has a value that can't be used; the text is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """Where PostgreSQL is, and how many rows weather_data must hold."""

    postgres_host: str
    postgres_port: int
    postgres_db: str
    postgres_user: str
    postgres_password: str = field(repr=False)
    postgres_sslmode: str
    total_records: int

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        return cls(
            postgres_host=_text(environ, "POSTGRES_HOST", "localhost"),
            postgres_port=_integer(environ, "POSTGRES_PORT", 5432, 1, 65535),
            postgres_db=_text(environ, "POSTGRES_DB", "weather"),
            postgres_user=_text(environ, "POSTGRES_USER", "weather"),
            postgres_password=_password(environ),
            postgres_sslmode=_choice(environ, "POSTGRES_SSLMODE", "prefer", SSL_MODES),
            total_records=_integer(environ, "TOTAL_RECORDS", 10_000_000, 1, 2**31 - 1),
        )


def _text(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name, "") or default


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = _text(environ, name, str(default))
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise ConfigError(f"{name} is {value!r}: expected a whole number from {low} to {high}")
    return int(value)


def _choice(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = _text(environ, name, default)
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}: expected one of {', '.join(allowed)}")
    return value


def _password(environ: Mapping[str, str]) -> str:
    password, path = environ.get("POSTGRES_PASSWORD"), environ.get("POSTGRES_PASSWORD_FILE")
    if bool(password) == bool(path):
        raise ConfigError(
            "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE: "
            f"{'both are' if password else 'neither is'} set, expected exactly one of them"
        )
    if password:
        return password
    try:
        password = Path(path).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(
            f"POSTGRES_PASSWORD_FILE is {path!r}: expected a readable file ({reason})"
        ) from error
    if not password:
        raise ConfigError(f"POSTGRES_PASSWORD_FILE is {path!r}: expected a password, it is empty")
    return password
