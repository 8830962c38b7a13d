"""Replicas whose names get other addresses while requests are under way."""

import signal
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from polling import poll

from .conftest import Nginx, Upstream

NAME = "replica.test"
NO_SUCH_NAME = 3  # DNS: RCODE


class NameServer:
    """Answers every question with 127.0.0.1, or after forget() with "no such name"."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.answers = 0
        self._knows = True
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def forget(self):
        self._knows = False
        self.answers = 0

    def close(self):
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            query, client = self._socket.recvfrom(512)
            if not query:
                return
            question = query[12 : query.index(b"\0", 12) + 5]
            record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton("127.0.0.1")
            flags = 0x8180 | (0 if self._knows else NO_SUCH_NAME)
            header = struct.pack(">2sHHHHH", query[:2], flags, 1, int(self._knows), 0, 0)
            self._socket.sendto(header + question + (record if self._knows else b""), client)
            self.answers += 1


@pytest.fixture
def name_server():
    server = NameServer()
    yield server
    server.close()


def test_a_retry_finds_the_live_replica_after_addresses_changed(name_server):
    frozen, live, named = upstreams = [Upstream(name) for name in ("frozen", "live", "named")]
    try:
        with Nginx(upstreams) as nginx:
            for servers in ("servers.conf", "all_servers.conf"):
                (nginx.directory / servers).write_text(
                    f"resolver 127.0.0.1:{name_server.port} valid=1s ipv6=off;\n"
                    "resolver_timeout 1s;\n"
                    f"server 127.0.0.1:{frozen.port};\nserver 127.0.0.1:{live.port};\n"
                    f"server {NAME}:{named.port} resolve;\n"
                )
            nginx.process.send_signal(signal.SIGHUP)
            poll(lambda: nginx.query().json["name"] == "named", 30)
            frozen.signal(signal.SIGSTOP)
            with ThreadPoolExecutor(6) as clients:
                answers = [clients.submit(nginx.query) for _ in range(6)]
                name_server.forget()
                poll(lambda: name_server.answers > 1, 30)
            assert [answer.result().status for answer in answers] == [200] * 6
            assert max(answer.result().seconds for answer in answers) > 1.5, (
                "none met the frozen one"
            )
    finally:
        for upstream in upstreams:
            upstream.kill()
