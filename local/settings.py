"""The local stack's settings, and a check of everybody's before anything is started."""

import importlib
import importlib.util
import ipaddress
import os
import sys
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from environment import (
    ConfigError,
    Environ,
    bad_value,
    read_integer,
    read_secret,
    read_text,
)

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"data-populator": "populator", "data-query": "gate", "flask": "weather"}


@dataclass(frozen=True)
class Settings:
    """Where nginx listens, how many replicas there are, and the accounts.

    A port of 0 is a free one. Without a password the cluster's own is used for its owner, and
    one is made up for the others.
    """

    bind_address: str
    port: int
    replicas: int
    postgres_db: str
    postgres_user: str
    postgres_password: str | None = field(repr=False)
    postgres_app_user: str
    postgres_app_password: str | None = field(repr=False)
    redis_password: str | None = field(repr=False)

    @classmethod
    def from_env(cls, environ: Environ = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        return cls(
            bind_address=_address(environ, "BIND_ADDRESS", "127.0.0.1"),
            port=read_integer(environ, "NGINX_PORT", 8000, 0, 65535),
            replicas=read_integer(environ, "FLASK_REPLICAS", 3, 1, 100),
            postgres_db=read_text(environ, "POSTGRES_DB", "weather"),
            postgres_user=read_text(environ, "POSTGRES_USER", "weather"),
            postgres_password=read_secret(environ, "POSTGRES_PASSWORD"),
            postgres_app_user=read_text(environ, "POSTGRES_APP_USER", "weather_app"),
            postgres_app_password=read_secret(environ, "POSTGRES_APP_PASSWORD"),
            redis_password=read_secret(environ, "REDIS_PASSWORD"),
        )


def check_rooms(environ: Environ) -> None:
    """Let each program check its variables now, rather than minutes later; raises ConfigError."""
    for room, package in PACKAGES.items():
        settings = _import_settings(ROOT / room, package)
        try:
            settings.Settings.from_env(environ)
        except ValueError as error:  # each package has a ConfigError of its own
            raise ConfigError(str(error)) from error


def _import_settings(folder: Path, package: str) -> ModuleType:
    """The module ``settings`` of a package that lies in a folder which is not on sys.path."""
    if package not in sys.modules:
        spec = PathFinder.find_spec(package, [str(folder)])
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.settings")


def _address(environ: Environ, name: str, default: str) -> str:
    value = read_text(environ, name, default)
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError as error:
        raise bad_value(name, value, "an IPv4 address") from error
