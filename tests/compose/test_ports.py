"""BIND_ADDRESS opens the way in to others, and nothing behind it."""

import json


def test_bind_address_opens_nginx_and_locust_but_not_flask(make_project):
    """Flask's own port goes around nginx, with RATE_LIMIT and the limits on requests."""
    project = make_project("test-compose-ports", BIND_ADDRESS="0.0.0.0")
    config = project.compose("--profile", "simulate", "config", "--format", "json").stdout
    opened = {
        name: [port["host_ip"] for port in service["ports"]]
        for name, service in json.loads(config)["services"].items()
        if "ports" in service
    }
    assert opened == {"nginx": ["0.0.0.0"], "locust": ["0.0.0.0"], "flask": ["127.0.0.1"]}
