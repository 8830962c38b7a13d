"""BIND_ADDRESS opens the way in to others, and nothing behind it."""

import json


def opened(project):
    """Host addresses of each service's ports."""
    config = project.compose("--profile", "simulate", "config", "--format", "json").stdout
    return {
        name: [port["host_ip"] for port in service["ports"]]
        for name, service in json.loads(config)["services"].items()
        if "ports" in service
    }


def test_bind_address_opens_nginx_but_neither_flask_nor_locust(make_project):
    """Flask's own port goes around nginx's limits; Locust's page puts load on any address."""
    project = make_project("test-compose-ports", BIND_ADDRESS="0.0.0.0")
    assert opened(project) == {
        "nginx": ["0.0.0.0"],
        "locust": ["127.0.0.1"],
        "flask": ["127.0.0.1"],
    }


def test_locusts_page_has_an_address_of_its_own_which_it_is_told(make_project):
    """So that it asks for a password."""
    project = make_project("test-compose-ports", LOCUST_BIND_ADDRESS="10.0.0.1")
    assert opened(project)["locust"] == ["10.0.0.1"]
    config = project.compose("--profile", "simulate", "config", "--format", "json").stdout
    environment = json.loads(config)["services"]["locust"]["environment"]
    assert environment["LOCUST_BIND_ADDRESS"] == "10.0.0.1"
