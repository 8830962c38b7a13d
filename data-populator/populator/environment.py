"""Reads settings from the environment. The same file stands in each build context.

Every bad value raises ConfigError: one line that names the variable, its value and what is allowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOOLEANS = {"true": True, "on": True, "yes": True, "1": True}
BOOLEANS |= {"false": False, "off": False, "no": False, "0": False}
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
MAX_ROWS = 2**31 - 1  # weather_data.id is an integer
LONGEST_NUMBER = 20  # digits; int() refuses thousands of them with an error of its own
LONGEST_SHOWN = 200  # characters of a bad value that its message repeats

Environ = Mapping[str, str]


class ConfigError(ValueError):
    """A variable has a value that can't be used; the text is one line for the user."""


def read_text(environ: Environ, name: str, default: str) -> str:
    """The variable, or the default where it is empty or not set."""
    return environ.get(name, "") or default


def read_integer(environ: Environ, name: str, default: int, low: int, high: int) -> int:
    """A whole number from low to high."""
    value = read_text(environ, name, str(default))
    digits = value.isascii() and value.isdigit() and len(value) <= LONGEST_NUMBER
    if not (digits and low <= int(value) <= high):
        raise bad_value(name, value, f"a whole number from {low} to {high}")
    return int(value)


def read_boolean(environ: Environ, name: str, default: bool) -> bool:
    """A switch; upper and lower case are equal."""
    value = read_text(environ, name, str(default))
    if value.lower() not in BOOLEANS:
        raise bad_value(name, value, "true/false, on/off, yes/no or 1/0")
    return BOOLEANS[value.lower()]


def read_choice(environ: Environ, name: str, default: str, allowed: Sequence[str]) -> str:
    """One of a few words."""
    value = read_text(environ, name, default)
    if value not in allowed:
        raise bad_value(name, value, f"one of {', '.join(allowed)}")
    return value


def read_file_name(environ: Environ, name: str) -> str | None:
    """The name of a file that can be read; None where the variable is empty or not set."""
    path = environ.get(name) or None
    try:
        if path:
            Path(path).read_bytes()
    except OSError as error:
        raise bad_value(name, path, f"a readable file ({error.strerror})") from error
    return path


def read_total_records(environ: Environ) -> int:
    """TOTAL_RECORDS: the rows that weather_data must hold."""
    return read_integer(environ, "TOTAL_RECORDS", 10_000_000, 1, MAX_ROWS)


def read_password(environ: Environ, name: str) -> str:
    """As read_secret(), where one of the two must be set."""
    password = read_secret(environ, name)
    if password is None:
        raise ConfigError(f"{name} and {name}_FILE: neither is set, expected exactly one of them")
    return password


def read_secret(environ: Environ, name: str) -> str | None:
    """The variable, or what the file holds that NAME_FILE names; None where neither is set."""
    password, path = environ.get(name), environ.get(f"{name}_FILE")
    if password and path:
        raise ConfigError(f"{name} and {name}_FILE: both are set, expected exactly one of them")
    if not path:
        return password or None
    try:
        password = Path(path).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise bad_value(f"{name}_FILE", path, f"a readable file ({reason})") from error
    if not password:
        raise bad_value(f"{name}_FILE", path, "a password, it is empty")
    return password


@dataclass(frozen=True)
class PostgresSettings:
    """Where PostgreSQL is, and who logs in."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str
    sslrootcert: str | None  # a file with the certificates of who may have signed the server's

    @classmethod
    def from_env(cls, environ: Environ) -> "PostgresSettings":
        settings = cls(
            host=read_text(environ, "POSTGRES_HOST", "localhost"),
            port=read_integer(environ, "POSTGRES_PORT", 5432, 1, 65535),
            database=read_text(environ, "POSTGRES_DB", "weather"),
            user=read_text(environ, "POSTGRES_USER", "weather"),
            password=read_password(environ, "POSTGRES_PASSWORD"),
            sslmode=read_choice(environ, "POSTGRES_SSLMODE", "prefer", SSL_MODES),
            sslrootcert=read_file_name(environ, "POSTGRES_SSLROOTCERT"),
        )
        if settings.sslmode.startswith("verify") and not settings.sslrootcert:
            raise bad_value(
                "POSTGRES_SSLROOTCERT",
                "",
                f"a file of certificates, as POSTGRES_SSLMODE is {settings.sslmode}",
            )
        return settings

    @property
    def address(self) -> str:
        """host:port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """Keyword arguments of psycopg2.connect()."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "sslrootcert": self.sslrootcert,
        }


def bad_value(name: str, value: str, expected: str) -> ConfigError:
    """The error for a variable's value, which it shows by its first LONGEST_SHOWN characters."""
    shown = repr(value[:LONGEST_SHOWN]) + ("..." if len(value) > LONGEST_SHOWN else "")
    return ConfigError(f"{name} is {shown}: expected {expected}")
