"""The local stack's settings, and a check of everybody's before anything is started."""

import importlib.util
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data-populator", "data-query", "flask")


class ConfigError(ValueError):
    """A variable has a value that can't be used; the text is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """Where nginx listens, how many replicas there are, and the database's account.

    A port of 0 is a free one; without a password the cluster's own is used.
    """

    bind_address: str
    port: int
    replicas: int
    postgres_db: str
    postgres_user: str
    postgres_password: str | None = field(repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one."""
        return cls(
            bind_address=_address(environ, "BIND_ADDRESS", "127.0.0.1"),
            port=_integer(environ, "NGINX_PORT", 8000, 0, 65535),
            replicas=_integer(environ, "FLASK_REPLICAS", 3, 1, 100),
            postgres_db=_text(environ, "POSTGRES_DB", "weather"),
            postgres_user=_text(environ, "POSTGRES_USER", "weather"),
            postgres_password=_password(environ),
        )


def check_rooms(environ: Mapping[str, str]) -> None:
    """Let each program check its variables now, rather than minutes later; raises ConfigError."""
    for room in ROOMS:
        path = ROOT / room / "config.py"
        spec = importlib.util.spec_from_file_location(f"{room} config", path)
        config = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(config)
        try:
            config.Settings.from_env(environ)
        except config.ConfigError as error:
            raise ConfigError(str(error)) from error


def _text(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name, "") or default


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = _text(environ, name, str(default))
    digits = value.isascii() and value.isdigit() and len(value) <= 10
    if not (digits and low <= int(value) <= high):
        raise ConfigError(f"{name} is {value!r}: expected a whole number from {low} to {high}")
    return int(value)


def _address(environ: Mapping[str, str], name: str, default: str) -> str:
    value = _text(environ, name, default)
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError as error:
        raise ConfigError(f"{name} is {value!r}: expected an IPv4 address") from error


def _password(environ: Mapping[str, str]) -> str | None:
    password, path = environ.get("POSTGRES_PASSWORD"), environ.get("POSTGRES_PASSWORD_FILE")
    if password and path:
        raise ConfigError(
            "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE: both are set, expected at most one"
        )
    if not path:
        return password or None
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
