"""gunicorn with the image's settings: how it starts, refuses to start, and shares its threads."""

import http.client
import os
import re
import select
import socket
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest
from flask_servers import (
    REPOSITORY,
    clean,
    command,
    locked_table,
    query,
    request,
    send_query,
    serving,
)
from polling import poll
from processes import free_ports

UNSHARE = ["unshare", "--mount", "--net"] + ["--map-root-user"] * (os.geteuid() != 0)


def refused(environ, **changes):
    """Start gunicorn with variables that it must refuse; returns exit code and error output."""
    process = subprocess.run(
        command(free_ports(1)[0]),
        cwd=REPOSITORY,
        env=clean(environ | changes),
        capture_output=True,
        text=True,
        timeout=30,
    )
    return process.returncode, process.stderr


@pytest.mark.parametrize(("variable", "most"), [("POOL_MAXCONN", 1000), ("WEB_CONCURRENCY", 8)])
def test_a_bad_variable_ends_it_with_one_line(environ, variable, most):
    assert refused(environ, **{variable: "abc"}) == (
        2,
        f"{variable} is 'abc': expected a whole number from 1 to {most}\n",
    )


def test_an_empty_number_of_workers_is_the_default(environ, postgres, valkey, tmp_path):
    environ |= {"WEB_CONCURRENCY": "", "FLASK_REPLICAS": "1"}
    with serving(environ, tmp_path) as port:
        assert query(port)[0] == 200


def test_too_many_connections_end_it_with_one_line(environ, postgres):
    code, output = refused(environ, FLASK_REPLICAS="3", POOL_MAXCONN="11")
    assert code == 1
    lines = [line for line in output.splitlines() if "[INFO]" not in line]
    assert len(lines) == 1
    assert "= 33 connections, but PostgreSQL has 32" in lines[0]


def test_it_serves_without_postgresql_and_says_so(environ, tmp_path):
    with serving(environ, tmp_path) as port:
        assert request(port, "GET", "/health-check") == (200, b"success")
        assert query(port)[0] == 503
    log = (tmp_path / "log").read_text()
    assert "the connection budget could not be checked" in log
    assert "serving without PostgreSQL for now" in log
    assert "secret-word" not in log


def answered(clients):
    """Those whose answer has begun to arrive."""
    return select.select(clients, [], [], 0)[0]


def response_of(client):
    with client, http.client.HTTPResponse(client) as response:
        response.begin()
        return response


def status_of(client):
    return response_of(client).status


def test_pages_answer_while_the_pool_is_exhausted(environ, postgres, valkey, tmp_path):
    environ |= {"FLASK_REPLICAS": "1", "CACHE": "false"}
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'relation'"
    with serving(environ, tmp_path) as port:
        assert request(port, "GET", "/")[0] == 200
        with locked_table(postgres):
            slow = [send_query(port) for _ in range(15)]
            poll(lambda: postgres.value(blocked) == 15)
            waiting = [send_query(port) for _ in range(60)]
            for path in ("/", "/health-check"):
                assert request(port, "GET", path)[0] == 200
            assert not answered([*slow, *waiting])
            refusals = [response_of(client) for client in [*slow, *waiting]]
            assert {refusal.status for refusal in refusals} == {503}
            assert {refusal.headers["X-Refused-By"] for refusal in refusals} == {"database", "pool"}
            _, shown = request(port, "GET", "/metrics")
            for refused_by in (b"database", b"pool"):
                assert re.search(rb'_refused_total{reason="%s"} [1-9]' % refused_by, shown)
        assert query(port)[0] == 200


@pytest.fixture(scope="module")
def namespaces():
    """Skip where this user may not have namespaces, such as on Ubuntu 24.04 as it comes."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no mount and network namespace: {getattr(error, 'stderr', b'') or error}")


@contextmanager
def serving_without_names(tmp_path, **changes):
    """A gunicorn for which no name resolves; yields its port, which this process opened."""
    environ = {"POSTGRES_HOST": "db", "POSTGRES_PASSWORD": "word", "REDIS_HOST": "redis"} | changes
    silent = [*UNSHARE, sys.executable, "tests/flask/silent_names.py"]
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*silent, sys.executable, "flask/wsgi.py", "--bind", f"fd://{listener.fileno()}"],
            cwd=REPOSITORY,
            env=clean(environ),
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        try:
            poll(lambda: "Booting worker" in (tmp_path / "log").read_text(), 20)
            yield listener.getsockname()[1]
            process.terminate()
            assert process.wait(30) == 0  # graceful_timeout is 20 s
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("pooling", ["true", "false"])
def test_health_checks_answer_while_queries_wait_for_a_name(namespaces, tmp_path, pooling):
    with serving_without_names(tmp_path, USE_POOLING=pooling) as port:
        for _ in range(3):
            waiting = [send_query(port) for _ in range(20)]
            assert request(port, "GET", "/health-check") == (200, b"success")
            if pooling == "false":  # the pool refuses some at once, as it just failed
                assert not answered(waiting)
            # their clients wait 10 s, a look-up takes a minute
            assert {status_of(client) for client in waiting} == {503}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_chunked_bodies_and_kept_connections(environ, postgres, valkey, tmp_path, workers):
    with serving(environ | {"WEB_CONCURRENCY": workers, "FLASK_REPLICAS": "1"}, tmp_path) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        for body, status in (
            ([b'{"location": ', b'"Portland"}'], 200),
            ([b"x" * 3000, b"x" * 3000], 413),
            ([b'{"location": "Portland"}'], 200),
        ):
            connection.request("POST", "/query", iter(body), headers, encode_chunked=True)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.close()


def test_conflicting_lengths_are_refused(environ, postgres, valkey, tmp_path):
    with (
        serving(environ | {"FLASK_REPLICAS": "1"}, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as client,
    ):
        client.sendall(
            b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 400")


def test_header_and_body_are_sent_in_one_write(environ, postgres, valkey, tmp_path):
    """A worker killed between the two would leave nginx with half an answer."""
    with (
        serving(environ | {"FLASK_REPLICAS": "1"}, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as client,
    ):
        for path in ("/locations?limit=5", "/health-check", "/nowhere") * 30:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            header, _, body = client.recv(65536).partition(b"\r\n\r\n")
            assert f"\r\nContent-Length: {len(body)}\r\n".encode() in header


def test_nobody_works_for_who_has_gone(environ, postgres, valkey, tmp_path):
    with serving(environ | {"FLASK_REPLICAS": "1"}, tmp_path) as port:
        programs = psutil.Process().children(recursive=True)
        server = [one for one in programs if "flask/wsgi.py" in one.cmdline()]
        for process in server:
            process.suspend()
        send_query(port).close()
        for process in server:
            process.resume()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/query", "location=Portland", headers)
        with connection.getresponse() as response:
            assert response.headers["X-Cache"] == "miss"
        connection.close()


def test_files_and_answers_without_a_body(environ, postgres, valkey, tmp_path):
    style = (REPOSITORY / "flask" / "weather" / "static" / "style.css").read_bytes()
    with serving(environ | {"FLASK_REPLICAS": "1"}, tmp_path) as port:
        assert request(port, "GET", "/static/style.css") == (200, style)
        assert request(port, "HEAD", "/static/style.css") == (200, b"")
        assert request(port, "OPTIONS", "/query") == (200, b"")
