"""Names of PostgreSQL and Redis, looked up by a resolver that the test holds still."""

import dataclasses
import os
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import psycopg2
import pytest
from polling import poll

from weather import redis_client
from weather.connect import connect
from weather.redis_client import RedisClient, RedisDownError
from weather.resolve import resolve

NAME = "weather.test"
NOBODY = "127.255.255.254"  # nothing listens there


def deadline(seconds=10.0):
    return monotonic() + seconds


class Resolver:
    """Answers for NAME alone, with ``addresses`` or gaierror, while ``answers`` is set."""

    def __init__(self):
        self.getaddrinfo = socket.getaddrinfo
        self.addresses = ["127.0.0.1"]
        self.answers = threading.Event()
        self.threads = []  # one for each question

    def __call__(self, host, port, *arguments, **options):
        if host != NAME.encode():
            return self.getaddrinfo(host, port, *arguments, **options)
        self.threads.append(threading.current_thread())
        assert self.answers.wait(10)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in self.addresses]


@pytest.fixture
def resolver(monkeypatch):
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.answers.set()
    for thread in resolver.threads:
        thread.join(10)


def test_an_address_is_not_looked_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    for address in ("127.0.0.1", "::1", "fe80::1%1"):
        assert resolve(address, deadline()) == [address]


def test_one_look_up_at_a_time_for_all_who_wait(resolver):
    with ThreadPoolExecutor(20) as threads:
        for _ in range(20):
            with pytest.raises(TimeoutError, match=NAME):
                resolve(NAME, deadline(0.001))
        waiting = [threads.submit(resolve, NAME, deadline()) for _ in range(20)]
        resolver.answers.set()
        assert {address for future in waiting for address in future.result()} == {"127.0.0.1"}
    assert len(resolver.threads) == 1
    resolver.addresses = ["127.0.0.2"]
    assert resolve(NAME, deadline()) == ["127.0.0.2"]  # an answer is not kept


def test_a_failure_is_not_kept(resolver):
    resolver.answers.set()
    addresses, resolver.addresses = resolver.addresses, []
    with pytest.raises(socket.gaierror):
        resolve(NAME, deadline())
    resolver.addresses = addresses
    assert resolve(NAME, deadline()) == addresses


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_does_not_wait_for_its_parents_look_up(resolver):
    with pytest.raises(TimeoutError):
        resolve(NAME, deadline(0.001))
    child = os.fork()
    if not child:
        try:
            resolver.answers.set()
            os._exit(resolve(NAME, deadline(2)) != ["127.0.0.1"])
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def named(settings):
    """Settings that lead to both servers by NAME."""
    postgres = dataclasses.replace(settings.postgres, host=NAME)
    return dataclasses.replace(settings, postgres=postgres, redis_host=NAME)


def test_each_address_of_a_name_is_tried(resolver, postgres, valkey, named):
    resolver.addresses = [NOBODY, "127.0.0.1"]
    resolver.answers.set()
    connection = connect(named, deadline())
    assert (connection.info.host, connection.info.status) == (NAME, 0)
    connection.close()
    assert RedisClient(named).execute("PING", deadline=deadline())


def test_a_name_without_an_address(resolver, named):
    resolver.addresses = []
    resolver.answers.set()
    with pytest.raises(psycopg2.OperationalError, match=f'"{NAME}" to address: Name or service'):
        connect(named, deadline())
    with pytest.raises(RedisDownError, match="Name or service not known"):
        RedisClient(named).execute("PING", deadline=deadline())


def test_redis_is_down_while_its_name_is_looked_up(resolver, named, valkey):
    redis = RedisClient(named)
    with pytest.raises(RedisDownError):
        redis.execute("PING", deadline=deadline())
    resolver.answers.set()

    def is_up():
        try:
            return redis.execute("PING", deadline=deadline())
        except RedisDownError:
            return False

    poll(is_up)


@pytest.fixture
def tls_port(tmp_path, monkeypatch):
    """A server with a certificate for NAME; it says OK to each command, up to a PING."""
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", *names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(redis_client, "TIMEOUT", 10)  # seconds: a handshake on a busy machine
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve():
        with context.wrap_socket(listener.accept()[0], server_side=True) as client:
            for line in client.makefile("rb"):
                if line.startswith(b"*"):
                    client.sendall(b"+OK\r\n")
                elif b"PING" in line:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        served = threads.submit(serve)
        yield listener.getsockname()[1]
    assert not served.exception() or isinstance(served.exception(), OSError)


@pytest.mark.parametrize(("host", "is_trusted"), [(NAME, True), ("127.0.0.1", False)])
def test_the_certificate_of_redis_is_checked_against_the_name(
    resolver, settings, tls_port, host, is_trusted
):
    resolver.answers.set()
    redis = RedisClient(
        dataclasses.replace(settings, redis_host=host, redis_port=tls_port, redis_ssl=True)
    )
    if is_trusted:
        assert redis.execute("PING", deadline=deadline()) == b"OK"
    else:
        with pytest.raises(RedisDownError, match="certificate"):
            redis.execute("PING", deadline=deadline())
