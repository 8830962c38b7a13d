"""Prometheus beside the loaded stack: everybody answers it, and every panel and rule has data."""

import json
import math
import re
from contextlib import suppress
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from dashboards import FOLDER, Prometheus, load, queries
from polling import poll

REPLICAS = ("flask", "flask_replica_1", "flask_replica_2")
SIDECARS = [f"{name}-sidecar" for name in ("db", "redis", *REPLICAS, "nginx")]
EXPORTERS = ["nginx-exporter", "postgres-exporter", "redis-exporter"]
OBSERVERS = ["prometheus", *EXPORTERS, *SIDECARS]  # no registry here has Grafana
PROFILES = ["--profile", "observe", "--profile", "simulate"]
USERS = {
    "user_classes": "RandomLocations",
    "user_count": 20,
    "spawn_rate": 20,
    "host": "http://nginx:8080",
}
METRIC = re.compile(r"\b(?:up|(?:job|instance):\w+:\w+|(?:weather|locust)_\w+)\b")
ENOUGH = 60  # seconds until everything was asked twice and the rules ran


@pytest.fixture(scope="module")
def project(started):
    """The stack of the drills, with Prometheus and Locust; this is the last file that needs it."""
    project = started.project
    project.compose(*PROFILES, "build", "prometheus", "db-sidecar", "locust")
    project.compose(*PROFILES, "up", "--detach", *OBSERVERS, "locust", "locust-worker")
    yield project
    project.down()  # the tests that run alone want all cores


@pytest.fixture(scope="module")
def prometheus(project):
    """Prometheus, while Locust's users ask the stack."""
    page = f"http://127.0.0.1:{project.env['LOCUST_PORT']}"
    poll(lambda: workers(page), 30)
    urlopen(f"{page}/swarm", urlencode(USERS).encode(), timeout=10).close()
    return Prometheus(f"http://127.0.0.1:{project.env['PROMETHEUS_PORT']}")


def workers(page):
    with suppress(OSError), urlopen(f"{page}/stats/requests", timeout=10) as answer:
        return json.load(answer).get("workers")


def without_data(prometheus, expressions):
    """Those that have no number: no series, or nothing but NaN."""
    return [
        expression
        for expression in expressions
        if all(
            math.isnan(float(series["value"][1]))
            for series in prometheus.get("query", query=expression)["result"]
        )
    ]


def assert_have_data(prometheus, expressions):
    with suppress(AssertionError):
        poll(lambda: not without_data(prometheus, expressions), ENOUGH)
    assert not without_data(prometheus, expressions)


def test_everybody_answers_prometheus(prometheus):
    def down():
        targets = prometheus.get("targets", state="active")["activeTargets"]
        return {
            target["scrapeUrl"]: target["lastError"]
            for target in targets
            if target["health"] != "up"
        }

    with suppress(AssertionError):
        poll(lambda: not down(), ENOUGH)
    assert not down()


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_every_panel_has_data(prometheus, name):
    dashboard = load(name)
    variables = prometheus.variables(dashboard)
    assert all(variables.values())
    assert_have_data(prometheus, [query.expr for query in queries(dashboard, variables)])


def test_every_rule_runs_on_data(prometheus):
    def rules():
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    recorded = [rule["name"] for rule in rules() if rule["type"] == "recording"]
    alerts = [rule["query"] for rule in rules() if rule["type"] == "alerting"]
    assert_have_data(prometheus, recorded)
    assert_have_data(prometheus, set(METRIC.findall(" ".join(alerts))))
    assert {rule["health"] for rule in rules()} == {"ok"}


@pytest.mark.parametrize("service", OBSERVERS)
def test_observer_is_hardened(project, service):
    container = project.inspect(service)
    host = container["HostConfig"]
    assert container["State"]["Status"] == "running"
    assert container["Config"]["User"] not in ("", "0", "root")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] > 0
    assert host["Memory"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert "bind" not in {mount["Type"] for mount in container["Mounts"]}
