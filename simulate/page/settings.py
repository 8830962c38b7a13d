"""Settings of Locust's page."""

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from page.environment import ConfigError, Environ, bad_value, read_secret, read_text

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """Who may open the page, and where the replicas are."""

    user: str
    password: str | None = field(repr=False)  # None: no login
    flask_urls: tuple[str, ...]

    @classmethod
    def from_env(cls, environ: Environ = os.environ, web_host: str = "") -> "Settings":
        """Read and check every variable; raises ConfigError for the first bad one.

        ``web_host``: the address that Locust listens on, empty for all. A container listens on all
        of its own; LOCUST_BIND_ADDRESS says on which of the host's its port is published.
        """
        address = _address(environ, "LOCUST_BIND_ADDRESS") or web_host
        password = read_secret(environ, "LOCUST_PASSWORD")
        if not password and not _is_loopback(address):
            raise ConfigError(
                "LOCUST_PASSWORD and LOCUST_PASSWORD_FILE: neither is set, expected one of them,"
                f" as Locust's page is open to others on {address or 'every address'}"
            )
        return cls(
            user=read_text(environ, "LOCUST_USER", "locust"),
            password=password,
            flask_urls=_urls(environ, "FLASK_URLS"),
        )


def _address(environ: Environ, name: str) -> str:
    value = read_text(environ, name, "")
    if value and not is_address(value):
        raise bad_value(name, value, "an IP address")
    return value


def _urls(environ: Environ, name: str) -> tuple[str, ...]:
    urls = [url for url in read_text(environ, name, "").split(",") if url]
    for url in urls:
        if not (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
            raise bad_value(name, url, "URLs such as http://127.0.0.1:5000, with commas between")
    return tuple(url.rstrip("/") for url in urls)


def is_address(name: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
