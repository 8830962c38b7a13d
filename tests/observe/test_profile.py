"""The profile observe in docker-compose.yaml: apart, hardened, capped, and on loopback alone."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXPORTERS = {"nginx-exporter", "postgres-exporter", "redis-exporter"}


def services(*options, **environ):
    command = ["docker", "compose", "--env-file", os.devnull, *options, "config"]
    result = subprocess.run(
        [*command, "--format", "json"],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)["services"]


@pytest.fixture(scope="module")
def observers(docker_engine):
    """The services that the profile adds, with the stack open to everybody."""
    added = services("--profile", "observe", BIND_ADDRESS="0.0.0.0")
    return {name: service for name, service in added.items() if "profiles" in service}


def test_nothing_of_it_starts_without_the_profile(observers):
    assert {"prometheus", "grafana", *EXPORTERS} < observers.keys()
    assert not observers.keys() & services().keys()


def test_all_are_hardened_and_capped(observers):
    for name, service in observers.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert {mount["type"] for mount in service.get("volumes", [])} <= {"volume"}, name


def test_published_on_loopback_whatever_bind_address_says(observers):
    published = {
        name: [(port["host_ip"], port["published"]) for port in service["ports"]]
        for name, service in observers.items()
        if "ports" in service
    }
    assert published == {
        "prometheus": [("127.0.0.1", "9090")],
        "grafana": [("127.0.0.1", "3000")],
    }


def test_no_observer_sees_more_than_the_processes_of_its_service(observers):
    shared = {name: service["pid"] for name, service in observers.items() if "pid" in service}
    assert shared
    for name, pid in shared.items():
        assert f"{pid.removeprefix('service:')}-sidecar" == name
        assert list(observers[name]["networks"]) == ["backnet"]
    for service in observers.values():
        assert "network_mode" not in service


def test_prometheus_asks_services_that_exist(docker_engine):
    config = yaml.safe_load((ROOT / "observe/prometheus/prometheus.yml").read_text())
    known = services("--profile", "observe", "--profile", "simulate")
    targets = [
        target.partition(":")[0]
        for job in config["scrape_configs"]
        for target in job["static_configs"][0]["targets"]
    ]
    assert set(targets) - {"localhost"} <= known.keys()
    replicas = {name for name in known if re.fullmatch(r"flask(_replica_\d+)?", name)}
    assert replicas <= set(targets)


def test_kept_data_is_capped_and_other_pages_cannot_read_it():
    dockerfile = (ROOT / "observe/prometheus/Dockerfile").read_text()
    flags = dict(re.findall(r"--([a-z.]+)=([^\"]+)", dockerfile))
    assert flags["storage.tsdb.retention.time"]
    assert flags["storage.tsdb.retention.size"]
    assert flags["web.cors.origin"] == "none"
    assert "web.enable-admin-api" not in dockerfile
