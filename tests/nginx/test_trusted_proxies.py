"""TRUSTED_PROXIES: a client behind them is who they say; what anybody else says does not count."""

import pytest
from polling import poll

from .conftest import Nginx, Upstream, configure

PROXY, STRANGER = "127.0.5.1", "127.0.6.1"
RATE = 2  # requests/s
BURST = 10  # requests that may come at once


@pytest.fixture(scope="module")
def behind_proxy(upstreams):
    with Nginx(upstreams, rate_limit=str(RATE), trusted_proxies="127.0.5.0/24 10.0.0.1") as nginx:
        yield nginx


def forwarded(nginx, source, **headers):
    """What the app hears about a request's client: its address and scheme."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    heard = dict(nginx.ask(source=source, headers=names).json["headers"])
    return heard["x-forwarded-for"], heard["x-forwarded-proto"]


def test_a_trusted_proxy_says_who_the_client_is(behind_proxy):
    said = {"X_Forwarded_For": "203.0.113.5", "X_Forwarded_Proto": "https"}
    assert forwarded(behind_proxy, PROXY, **said) == ("203.0.113.5", "https")


def test_nobody_else_does(behind_proxy):
    said = {"X_Forwarded_For": "203.0.113.6", "X_Forwarded_Proto": "https"}
    assert forwarded(behind_proxy, STRANGER, **said) == (STRANGER, "http")


def test_what_the_client_wrote_before_the_proxy_does_not_count(behind_proxy):
    said = {"X_Forwarded_For": "127.0.0.1, 198.51.100.1, 203.0.113.7"}
    assert forwarded(behind_proxy, PROXY, **said)[0] == "203.0.113.7"


def test_a_chain_of_trusted_proxies_is_followed_to_the_client(behind_proxy):
    said = {"X_Forwarded_For": "127.0.0.1, 203.0.113.7, 127.0.5.9"}
    assert forwarded(behind_proxy, PROXY, **said)[0] == "203.0.113.7"


def test_a_scheme_that_is_none_is_not_passed_on(behind_proxy):
    said = {"X_Forwarded_For": "203.0.113.8", "X_Forwarded_Proto": "gopher"}
    assert forwarded(behind_proxy, PROXY, **said)[1] == "http"


def test_without_proxies_the_connection_says_who_the_client_is(balancer):
    said = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https"}
    assert forwarded(balancer, PROXY, **said) == (PROXY, "http")


def test_the_rate_limit_counts_clients_behind_the_proxy_apart(behind_proxy):
    def statuses(client):
        headers = {"X-Forwarded-For": client}
        asked = (behind_proxy.ask(source=PROXY, headers=headers) for _ in range(40))
        return {answer.status for answer in asked}

    assert statuses("198.51.100.20") == {200, 429}
    answer = behind_proxy.ask(source=PROXY, headers={"X-Forwarded-For": "198.51.100.21"})
    assert answer.status == 200


def test_the_access_log_has_the_client(behind_proxy):
    behind_proxy.ask(path="/?logged", source=PROXY, headers={"X-Forwarded-For": "198.51.100.30"})
    assert poll(lambda: behind_proxy.log_line("/?logged")).startswith("198.51.100.30 ")


@pytest.mark.parametrize("networks", ["10.0.0.256", "10.0.0.0/33", "0.0.0.0/0", "proxy", "::1"])
def test_a_wrong_network_is_refused(tmp_path, networks):
    result = configure(
        tmp_path, check=False, FLASK_UPSTREAMS="127.0.0.1:5000", TRUSTED_PROXIES=networks
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"TRUSTED_PROXIES is '{networks}': expected IPv4 networks")


def test_nginx_is_healthy_without_any_app():
    gone = Upstream("gone")
    gone.kill()
    with Nginx([gone], rate_limit=str(RATE)) as nginx:
        assert nginx.ask().status == 503
        answers = {nginx.ask(path="/nginx-health", source=STRANGER).status for _ in range(40)}
    assert answers == {200}
