"""The application's settings, read from the environment once and validated."""

import functools
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
BOOLEANS = {"true": True, "on": True, "yes": True, "1": True}
BOOLEANS |= {"false": False, "off": False, "no": False, "0": False}


class ConfigError(ValueError):
    """A variable has a value that can't be used; the text is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """Where PostgreSQL and Redis are, and how connections and answers are kept.

    pool_minconn and pool_maxconn are connections of one container, shared out over its
    web_concurrency workers; cache_expiry is the age in seconds that an answer never exceeds;
    flask_replicas is the number of containers that share the database.
    """

    postgres_host: str
    postgres_port: int
    postgres_db: str
    postgres_user: str
    postgres_password: str = field(repr=False)
    postgres_sslmode: str
    redis_host: str
    redis_port: int
    redis_ssl: bool
    use_pooling: bool
    pool_minconn: int
    pool_maxconn: int
    cache: bool
    memory_cache: bool
    cache_expiry: int
    web_concurrency: int
    flask_replicas: int
    hostname: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        settings = cls(
            postgres_host=_text(environ, "POSTGRES_HOST", "localhost"),
            postgres_port=_integer(environ, "POSTGRES_PORT", 5432, 1, 65535),
            postgres_db=_text(environ, "POSTGRES_DB", "weather"),
            postgres_user=_text(environ, "POSTGRES_USER", "weather"),
            postgres_password=_password(environ),
            postgres_sslmode=_choice(environ, "POSTGRES_SSLMODE", "prefer", SSL_MODES),
            redis_host=_text(environ, "REDIS_HOST", "localhost"),
            redis_port=_integer(environ, "REDIS_PORT", 6379, 1, 65535),
            redis_ssl=_boolean(environ, "REDIS_SSL", "false"),
            use_pooling=_boolean(environ, "USE_POOLING", "true"),
            pool_minconn=_integer(environ, "POOL_MINCONN", 5, 0, 1000),
            pool_maxconn=_integer(environ, "POOL_MAXCONN", 15, 1, 1000),
            cache=_boolean(environ, "CACHE", "true"),
            memory_cache=_boolean(environ, "MEMORY_CACHE", "true"),
            cache_expiry=_integer(environ, "CACHE_EXPIRY", 300, 1, 86_400),
            web_concurrency=_integer(environ, "WEB_CONCURRENCY", 1, 1, 64),
            flask_replicas=_integer(environ, "FLASK_REPLICAS", 3, 1, 1000),
            hostname=_hostname(environ),
        )
        settings._check_pool()
        return settings

    def _check_pool(self) -> None:
        if not self.use_pooling:
            return
        if self.pool_minconn > self.pool_maxconn:
            raise ConfigError(
                f"POOL_MINCONN is '{self.pool_minconn}': expected at most POOL_MAXCONN, "
                f"which is {self.pool_maxconn}"
            )
        if self.pool_maxconn < self.web_concurrency:
            raise ConfigError(
                f"POOL_MAXCONN is '{self.pool_maxconn}': expected at least one connection for "
                f"each of the {self.web_concurrency} workers of WEB_CONCURRENCY"
            )


@functools.cache
def load_settings() -> Settings:
    """The process's settings: gunicorn's master reads them, its workers inherit them."""
    return Settings.from_env()


def _text(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name, "") or default


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = _text(environ, name, str(default))
    # At most 10 digits: int() refuses thousands of them with an error of its own.
    digits = value.isascii() and value.isdigit() and len(value) <= 10
    if not (digits and low <= int(value) <= high):
        raise ConfigError(f"{name} is {value!r}: expected a whole number from {low} to {high}")
    return int(value)


def _boolean(environ: Mapping[str, str], name: str, default: str) -> bool:
    value = _text(environ, name, default)
    if value.lower() not in BOOLEANS:
        raise ConfigError(f"{name} is {value!r}: expected true/false, on/off, yes/no or 1/0")
    return BOOLEANS[value.lower()]


def _choice(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = _text(environ, name, default)
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}: expected one of {', '.join(allowed)}")
    return value


def _hostname(environ: Mapping[str, str]) -> str:
    """The replica's name; it goes into a response header, so only visible ASCII will do."""
    value = _text(environ, "HOSTNAME", socket.gethostname())
    if len(value) > 253 or not value.isascii() or not value.isprintable():
        raise ConfigError(f"HOSTNAME is {value!r}: expected at most 253 visible ASCII characters")
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
