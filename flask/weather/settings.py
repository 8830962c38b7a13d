"""The application's settings, read from the environment once and validated."""

import functools
import os
import socket
from dataclasses import dataclass, field

from weather.environment import (
    ConfigError,
    Environ,
    PostgresSettings,
    bad_value,
    read_boolean,
    read_choice,
    read_integer,
    read_secret,
    read_text,
)

LOG_FORMATS = ("text", "json")
MAX_WORKERS = 8  # a warm one takes 31 MB, and Compose gives a replica 512 MB


@dataclass(frozen=True)
class Settings:
    """Where PostgreSQL and Redis are, and how connections and answers are kept.

    pool_minconn and pool_maxconn are connections of one container, shared out over its
    web_concurrency workers; cache_expiry is the age in seconds that an answer never exceeds;
    flask_replicas is the number of containers that share the database.
    """

    postgres: PostgresSettings
    redis_host: str
    redis_port: int
    redis_ssl: bool
    redis_password: str | None = field(repr=False)
    use_pooling: bool
    pool_minconn: int
    pool_maxconn: int
    cache: bool
    memory_cache: bool
    cache_expiry: int
    web_concurrency: int
    flask_replicas: int
    hostname: str
    x_served_by: bool
    log_format: str

    @classmethod
    def from_env(cls, environ: Environ = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        settings = cls(
            postgres=PostgresSettings.from_env(environ),
            redis_host=read_text(environ, "REDIS_HOST", "localhost"),
            redis_port=read_integer(environ, "REDIS_PORT", 6379, 1, 65535),
            redis_ssl=read_boolean(environ, "REDIS_SSL", False),
            redis_password=read_secret(environ, "REDIS_PASSWORD"),
            use_pooling=read_boolean(environ, "USE_POOLING", True),
            pool_minconn=read_integer(environ, "POOL_MINCONN", 5, 0, 1000),
            pool_maxconn=read_integer(environ, "POOL_MAXCONN", 15, 1, 1000),
            cache=read_boolean(environ, "CACHE", True),
            memory_cache=read_boolean(environ, "MEMORY_CACHE", True),
            cache_expiry=read_integer(environ, "CACHE_EXPIRY", 300, 1, 86_400),
            web_concurrency=read_integer(environ, "WEB_CONCURRENCY", 1, 1, MAX_WORKERS),
            flask_replicas=read_integer(environ, "FLASK_REPLICAS", 3, 1, 1000),
            hostname=_hostname(environ),
            x_served_by=read_boolean(environ, "X_SERVED_BY", True),
            log_format=read_choice(environ, "LOG_FORMAT", "text", LOG_FORMATS),
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


def _hostname(environ: Environ) -> str:
    """The replica's name; it goes into a response header, so only visible ASCII will do."""
    value = read_text(environ, "HOSTNAME", socket.gethostname())
    if len(value) > 253 or not value.isascii() or not value.isprintable():
        raise bad_value("HOSTNAME", value, "at most 253 visible ASCII characters")
    return value
